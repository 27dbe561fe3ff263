"""What only shows from outside a process: memory, and kill -9."""

import signal
from pathlib import Path

from support.receiver_wire import established, store_message
from support.started import receiver_process

from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.models import AssociationOutcome


def resident_peak(pid: int) -> int:
    """The most memory a process has had resident, in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_memory_does_not_grow_with_an_instance(tmp_path: Path) -> None:
    """300 MB, sent as bytes; what is resident stays below half of it."""
    size = 300_000_000
    with receiver_process(tmp_path / "spool") as (process, port):
        with established(port) as peer:
            message = store_message("1.2.3", 2)
            peer.sendall(message[: message.rfind(bytes((4, 0)), 0, -8)])  # the command alone
            piece = (65530).to_bytes(4, "big")
            body = bytes(65528)
            pdu = b"\4\0" + (65534).to_bytes(4, "big") + piece + b"\1\0" + body
            for _ in range(size // len(body)):
                peer.sendall(pdu)
            peer.sendall(b"\4\0\0\0\0\x08\0\0\0\4\1\2\0\0")
            assert peer.recv(6)[0] == 4
        assert resident_peak(process.pid) < 150_000_000
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        (folder,) = spool.associations()
        (stored,) = folder.stored()
        assert stored.bytes > size - 65536


def test_a_receiver_killed_within_an_association_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    with receiver_process(tmp_path / "spool") as (process, port), established(port) as peer:
        for number in range(3):
            peer.sendall(store_message(f"1.2.{number}", 500))
            assert peer.recv(1024)[0] == 4
        peer.sendall(store_message("1.2.99", 50_000)[:20_000])
        while not list((tmp_path / "spool").glob("associations/*/[0-9]*.part")):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with receiver_process(tmp_path / "spool") as (process, _port):
        process.send_signal(signal.SIGKILL)  # what it must do before it listens is done
        process.wait(10)
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        (folder,) = spool.associations()
        assert folder.outcome is not None
        assert (folder.outcome.outcome, folder.outcome.instances) == (AssociationOutcome.ADAPTER_STOPPED, 3)
        assert {one.sop_instance_uid for one in folder.stored()} == {"1.2.0", "1.2.1", "1.2.2"}
        assert list(folder.path.glob("*.part")) == []
