"""SIGKILL to listener processes at random moments, while four peers send: what was answered 0000 is there, once.

``FAULTS=200`` kills 200 times; ``FAULTS_SEED`` repeats a run.
"""

import os
import random
import signal
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from pynetdicom.dsutils import encode
from structlog.testing import capture_logs
from support.listener_site import ListenerSite, listening
from support.receiver_wire import RELEASE_REQUEST, established, message_with, read_pdu, store_response
from support.receiving import CT_IMAGE, instance
from support.site import wait_until

from clara_dicom_adapter.configuration.settings import Durability
from clara_dicom_adapter.dicom import part10
from clara_dicom_adapter.receiver import listeners
from clara_dicom_adapter.spool import Spool, SpooledInstance, SpoolRole
from clara_dicom_adapter.spool.seal import seal_of

KILLS = int(os.environ.get("FAULTS") or 10)
PEERS = 4
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_PATIENCE_SECONDS = 60
"""For an answer; a disk that others keep busy makes a flush wait for many seconds."""

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180 + 6 * KILLS)]


class Peer(threading.Thread):
    """Sends one association after the other, each instance under a UID of its own, and keeps what was answered."""

    def __init__(self, number: int, port: int, chance: random.Random) -> None:
        super().__init__(name=f"peer-{number}", daemon=True)
        self.acknowledged: set[str] = set()
        self.unanswered: set[str] = set()
        self.broken: Exception | None = None
        self.enough = threading.Event()
        self._number = number
        self._port = port
        self._chance = chance
        self._sent = 0

    def run(self) -> None:
        try:
            while not self.enough.is_set():
                with (
                    suppress(ConnectionError),
                    closing(established(self._port, seconds=_PATIENCE_SECONDS)) as connection,
                ):
                    self._send_some(connection)
        except Exception as error:
            self.broken = error

    def _send_some(self, connection: socket.socket) -> None:
        for _ in range(self._chance.randint(1, 12)):
            if self.enough.is_set():
                break
            self._sent += 1
            size = self._chance.choice([100, 5_000, 60_000, 400_000])
            uid = f"1.2.{self._number + 1}.{size}.{self._sent}"
            self.unanswered.add(uid)
            connection.sendall(message_with(uid, data_set(uid), pdu_length=self._chance.choice([4096, 131072])))
            assert store_response(connection) == (uid, 0)
            self.unanswered.remove(uid)
            self.acknowledged.add(uid)
        connection.sendall(RELEASE_REQUEST)
        read_pdu(connection)


def data_set(uid: str) -> bytes:
    """The data set of an instance: always the same, and like no other."""
    ds = instance(uid=uid)
    ds[0x7FE00010].value = random.Random(uid).randbytes(int(uid.split(".")[3]))
    encoded = encode(ds, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    return encoded


def kill_one(site: ListenerSite, killed: set[int], chance: random.Random) -> int:
    """Kill a listener that serves an association."""
    victims: list[int] = []

    def one_serves() -> bool:
        serving = {live.listener for live in site.service.associations()}
        victims[:] = [pid for pid in map(site.pid_of, sorted(serving)) if pid is not None and pid not in killed]
        return bool(victims)

    wait_until("one serves", one_serves, 30)
    threading.Event().wait(chance.uniform(0, 0.02))  # the moment of the kill, from the last reply
    pid = chance.choice(victims)
    os.kill(pid, signal.SIGKILL)
    return pid


def answered(peers: Sequence[Peer]) -> int:
    """Instances that have been answered 0000."""
    for peer in peers:
        if peer.broken is not None:
            raise peer.broken
    return sum(len(peer.acknowledged) for peer in peers)


def batched(site: ListenerSite) -> list[SpooledInstance]:
    """Every instance in every batch."""
    return site.spool.instances_in([batch.ref.batch_id for batch in site.spool.batches_to_hand_over()])


@pytest.mark.parametrize("durability", Durability)
def test_what_was_answered_survives_the_death_of_its_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    """Without flushes, too: what a process has written outlives it."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - shown by pytest when the test fails
    chance = random.Random(seed)
    monkeypatch.setattr(listeners, "_LONGEST_PAUSE_SECONDS", 0.1)  # who dies all the time is replaced at once here
    storage = {"reconcileIntervalSeconds": 1, "preparedSpaceMB": 100, "durability": durability.value}
    with capture_logs() as logs, listening(tmp_path, storage=storage, receivers=3) as site:
        peers = [Peer(number, site.service.port, random.Random(f"{seed}-{number}")) for number in range(PEERS)]
        for peer in peers:
            peer.start()
        killed: set[int] = set()
        for _ in range(KILLS):
            aim = answered(peers) + chance.randint(0, 15)
            wait_until("the chosen reply", lambda aim=aim: answered(peers) >= aim)  # type: ignore[misc]
            killed.add(kill_one(site, killed, chance))
        for peer in peers:
            peer.enough.set()
        for peer in peers:
            peer.join(2 * _PATIENCE_SECONDS)
            assert not peer.is_alive()
        assert answered(peers) > 0
        wait_until("each is replaced", lambda: site.listeners.listening == 3 and not killed & {*site.listeners.pids})
        wait_until("every association is over", lambda: not site.service.associations())
        files = sorted((tmp_path / "spool" / "associations").glob("*/*.dcm"))
        wait_until("everything is in a batch", lambda: len(batched(site)) >= len(files))
        stored = batched(site)
        assert all(folder.outcome is not None for folder in site.spool.associations())
    acknowledged = set[str]().union(*(peer.acknowledged for peer in peers))
    unanswered = set[str]().union(*(peer.unanswered for peer in peers))
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        spool.remove_unbegun()  # a start does; what died before it had a file of facts never was an association
    assert list((tmp_path / "spool" / "associations").glob("*/*.part")) == []
    assert [entry for entry in logs if entry["event"] == "outcomes_not_written"] == []
    assert sorted(one.path for one in stored) == files
    times = Counter(one.sop_instance_uid for one in stored)
    assert set(times.values()) == {1}
    assert acknowledged <= set(times) <= acknowledged | unanswered
    sealed = 0
    for one in stored:
        header = part10.header(CT_IMAGE, one.sop_instance_uid, IMPLICIT_LITTLE_ENDIAN, "CT1")
        assert one.path.read_bytes()[128:] == header[128:] + data_set(one.sop_instance_uid), "but for its preamble"
        sealed += seal_of(one.path) is not None
    print(  # noqa: T201 - the figures of the run
        f"{len(killed)} kills, {len(acknowledged)} answered, {len(unanswered)} not, {len(stored)} stored, "
        f"{sealed} of them sealed"
    )
    assert sealed < len(stored), "there are few prepared files and segments"
    assert sealed > 0 or durability is Durability.OS
