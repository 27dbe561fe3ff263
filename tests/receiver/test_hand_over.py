"""From associations to signals: a real spool, real associations, and a real Temporal server that records them.

No worker runs: what a ReceiveWorkflow has been told is read from its history.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pynetdicom.association import Association
from support.receiver_wire import established, store_message
from support.receiving import LOOPBACK, Configured, InThisProcess, Recorded, Temporal, associate, instance
from support.spooling import facts, store
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from clara_dicom_adapter.configuration.settings import Durability, ScpSettings, StorageSettings
from clara_dicom_adapter.receiver import grouping
from clara_dicom_adapter.receiver.hand_over import HandOver as HandingOver
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.reports import Progress
from clara_dicom_adapter.receiver.service import ReceiverService
from clara_dicom_adapter.spool import (
    Arrivals,
    AssociationFolder,
    InstanceHead,
    PendingBatch,
    Spool,
    SpoolRole,
    Target,
    preparing,
)
from clara_dicom_adapter.spool.prepared import PREPARED, SIZES, size_of
from clara_dicom_adapter.temporal import attributes, queues
from clara_dicom_adapter.workflows.models import (
    AssociationOutcome,
    HandOver,
    HeldNode,
    Owner,
    ReceiveInput,
    SubmissionInput,
)

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], seconds: float = 60) -> T:
    """Look again and again until what is seen is what is wanted."""
    async with asyncio.timeout(seconds):
        while not wanted(seen := await look()):
            await asyncio.sleep(0.02)
    return seen


@workflow.defn(name="ReceiveWorkflow", sandboxed=False)
class Waiting:
    """Does nothing with what it is told, and waits for more."""

    @workflow.run
    async def run(self, start: ReceiveInput) -> None:
        del start
        workflow.upsert_search_attributes([attributes.STATE.value_set(attributes.State.RECEIVING.value)])
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def hand_over(self, delivered: HandOver) -> None:
        """Taken, and forgotten."""


class Site:
    """A receiver on a spool, with a secret of its own, so that no other test shares its workflow ids."""

    def __init__(self, root: Path, temporal: Temporal) -> None:
        self.root = root
        self.temporal = temporal
        self.secret = secrets.token_hex(32)
        self.configured = Configured()
        self.prepared_space_mb = 0
        self.durable = False
        self.reconcile_interval_seconds = 0.5
        self.service: ReceiverService | None = None
        self.spool: Spool | None = None

    async def start(self) -> None:
        self.spool = Spool.open(self.root, SpoolRole.RECEIVER, durable=self.durable)
        self.service = ReceiverService(
            InThisProcess(ScpSettings(port=0, host=(LOOPBACK,)), Arrivals(self.root, durable=self.durable)),
            StorageSettings(
                watermark_percent=100,
                reserve_space_gb=0,
                reconcile_interval_seconds=self.reconcile_interval_seconds,
                prepared_space_mb=self.prepared_space_mb,
                durability=Durability.FLUSH if self.durable else Durability.OS,
            ),
            self.spool,
            configuration=self.configured,
            associations=Recorded(),
            site_secret=lambda: self.secret,
            connect=self._connect,
        )
        await asyncio.to_thread(self.service.start)

    async def _connect(self) -> Client:
        await self.temporal.connect()  # raises while it is gone
        # a client belongs to the event loop that made it
        return await Client.connect(
            self.temporal.client.service_client.config.target_host, data_converter=pydantic_data_converter
        )

    async def stop(self) -> None:
        if self.service is not None and self.spool is not None:
            await asyncio.to_thread(self.service.stop, 0)
            self.spool.close()
            self.service = self.spool = None

    async def prepared_sizes(self) -> set[int | None]:
        return {size_of(path.name) for path in (self.root / PREPARED).iterdir()}

    async def associate(self) -> Association:
        assert self.service is not None
        return await asyncio.to_thread(associate, self.service.port)

    async def send(self, *studies: str) -> None:
        """One association with one instance for each study given."""
        assoc = await self.associate()
        for study in studies:
            answer = await asyncio.to_thread(assoc.send_c_store, instance(study=study))
            assert answer.Status == 0
        await asyncio.to_thread(assoc.release)

    def window(self, study: str | None) -> str:
        return grouping.workflow_id(self.configured.ae, "", study, bytes.fromhex(self.secret))

    async def only_association(self) -> str:
        assert self.spool is not None
        spool = self.spool

        async def look() -> list[str]:
            return [folder.association_id for folder in spool.associations() if folder.outcome is not None]

        return (await until(look, lambda found: len(found) == 1))[0]

    async def letters(self, workflow_id: str, wanted: Callable[[list[HandOver]], bool]) -> list[HandOver]:
        return await until(lambda: self.temporal.letters(workflow_id), wanted)


def total(letters: list[HandOver]) -> int:
    return sum(batch.instances for letter in letters for batch in letter.batches)


def has_end(letters: list[HandOver]) -> bool:
    return any(letter.ended for letter in letters)


@pytest.fixture
async def site(temporal_server: str, tmp_path: Path) -> AsyncIterator[Site]:
    client = await Client.connect(temporal_server, data_converter=pydantic_data_converter)
    one = Site(tmp_path / "spool", Temporal(client))
    try:
        yield one
    finally:
        await one.stop()


async def test_at_timeout_0_an_association_is_one_workflow(site: Site) -> None:
    await site.start()
    await site.send("1.2.3", "1.2.4", "")
    association_id = await site.only_association()
    workflow_id = f"receive-CLARA-{association_id}"
    letters = await site.letters(workflow_id, has_end)
    assert total(letters) == 3
    (end,) = [letter.ended for letter in letters if letter.ended]
    assert (end.outcome, end.instances, end.failed_instances) == (AssociationOutcome.RELEASED, 3, 0)
    assert letters[-1].ended is end
    assert len(letters) == 1  # batch and end ride together
    assert site.spool is not None
    assert site.spool.outstanding(workflow_id) == 3
    history = await site.temporal.client.get_workflow_handle(workflow_id).fetch_history()
    assert "Secret" not in history.to_json()
    assert "1.2.3" not in history.to_json()  # neither patients nor their studies


async def test_an_ended_association_is_handed_over_at_once(site: Site) -> None:
    """Not at the next tick of a timer: batches of an open association go out every second, this one must not wait."""
    await site.start()
    await site.send("1.2.3")  # connects, and finds the caches cold
    waits = []
    for _ in range(5):
        assoc = await site.associate()
        await asyncio.to_thread(assoc.send_c_store, instance())
        await asyncio.to_thread(assoc.release)
        released = asyncio.get_running_loop().time()
        assert site.spool is not None
        spool = site.spool
        newest = max(folder.association_id for folder in spool.associations())
        await site.letters(f"receive-CLARA-{newest}", has_end)
        waits.append(asyncio.get_running_loop().time() - released)
    assert sorted(waits)[2] < 0.5


async def test_a_window_collects_associations_by_grouping_value(site: Site) -> None:
    site.configured = Configured(timeout=30)
    await site.start()
    await site.send("1.2.3", "1.2.4")
    await site.send("1.2.3", "")
    first = await site.letters(site.window("1.2.3"), lambda seen: sum(1 for one in seen if one.ended) == 2)
    assert total(first) == 2
    assert total(await site.letters(site.window("1.2.4"), has_end)) == 1
    assert total(await site.letters(site.window(None), has_end)) == 1  # without the value: a group of their own


async def test_no_workflow_hears_of_an_end_before_its_batches_when_batching_fails_half_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch of the first study is durable when that of the second cannot be made; then only that is made."""
    monkeypatch.setattr("clara_dicom_adapter.receiver.hand_over._INSTANCES_AT_ONCE", 1)
    site.configured = Configured(timeout=30)
    await site.start()
    assert site.spool is not None
    make_batches = site.spool.make_batches
    made: list[str] = []

    def fail_once(
        folder: AssociationFolder, addressed: Sequence[tuple[Target, Sequence[InstanceHead]]]
    ) -> list[PendingBatch]:
        if len(made) == 1:
            made.append("failed")
            raise OSError("no space left on the device")
        made.extend(target.workflow_id for target, _ in addressed)
        return make_batches(folder, addressed)

    monkeypatch.setattr(site.spool, "make_batches", fail_once)
    await site.send("1.2.3", "1.2.4")
    for study in ("1.2.3", "1.2.4"):
        letters = await site.letters(site.window(study), lambda seen: has_end(seen) and total(seen) == 1)
        assert total(letters[: [letter.ended is not None for letter in letters].index(True) + 1]) == 1
    assert len(made) == 3
    assert made[1] == "failed"


async def test_an_instance_that_is_named_after_a_later_one_goes_with_its_association(site: Site) -> None:
    """The first one is in a prepared file and waits for its name; the second, in a new file, has one at once."""
    site.reconcile_interval_seconds = 600  # who looks through the spool must not see both of them before one is hidden
    await site.start()
    assert site.spool is not None
    folder = Arrivals(site.root, durable=False).begin_association(facts())
    names = [one.path for one in store(folder, 2)]
    hidden = names[0].rename(site.root / "not-named-yet")
    assert site.service is not None
    hand_over = site.service._hand_over
    hand_over.stored(folder.association_id)
    workflow_id = f"receive-{folder.facts.called_ae_title}-{folder.association_id}"
    await site.letters(workflow_id, lambda seen: total(seen) == 1)
    hidden.rename(names[0])
    folder.end(AssociationOutcome.RELEASED)
    hand_over.ended(folder.association_id, AssociationOutcome.RELEASED, 0)
    letters = await site.letters(workflow_id, has_end)
    assert total(letters) == 2
    assert letters[-1].ended is not None
    assert letters[-1].ended.instances == 2


async def test_what_the_reconciler_found_first_is_not_told_twice(site: Site) -> None:
    """Its listener's report comes late, and Temporal is away."""
    site.temporal.gone = True
    await site.start()
    assert site.service is not None
    hand_over = site.service._hand_over
    folder = Arrivals(site.root, durable=False).begin_association(facts())
    store(folder, 2)

    async def waiting() -> int:
        return hand_over.delivery.waiting

    await until(waiting, lambda found: found == 1)
    folder.end(AssociationOutcome.RELEASED)
    hand_over.ended(folder.association_id, AssociationOutcome.RELEASED, 0)
    site.temporal.gone = False
    workflow_id = f"receive-{folder.facts.called_ae_title}-{folder.association_id}"
    letters = await site.letters(workflow_id, has_end)
    batches = [batch.batch_id for letter in letters for batch in letter.batches]
    assert len(batches) == len(set(batches))
    assert total(letters) == 2


async def test_an_association_that_has_ended_with_nothing_in_it_is_not_followed_for_ever(site: Site) -> None:
    """Its folder is removed before anybody has looked into it."""
    await site.start()
    assert site.service is not None
    assert site.spool is not None
    hand_over = site.service._hand_over
    folder = Arrivals(site.root, durable=False).begin_association(facts())
    hand_over.stored(folder.association_id)
    folder.end(AssociationOutcome.CONNECTION_LOST)
    site.spool.reclaim()
    assert not folder.path.exists()
    hand_over.ended(folder.association_id, AssociationOutcome.CONNECTION_LOST, 0)

    async def followed() -> bool:
        return hand_over.follows(folder.association_id)

    await until(followed, lambda found: not found)


async def test_progress_that_an_end_has_overtaken_opens_nothing_again(site: Site) -> None:
    await site.start()
    await site.send("1.2.3")
    association_id = await site.only_association()
    await site.letters(f"receive-CLARA-{association_id}", has_end)
    service = site.service
    assert service is not None

    async def follows() -> bool:
        return service._hand_over.follows(association_id)

    await until(follows, lambda found: not found)
    late = LiveAssociation(association_id, "CT1", "CLARA", LOOPBACK, instances=1, spooled=True)
    service.hear(0, Progress([late]))
    assert service.associations() == []
    assert not await follows()


async def test_batches_go_out_while_the_association_is_open(site: Site) -> None:
    await site.start()
    assoc = await site.associate()
    await asyncio.to_thread(assoc.send_c_store, instance())
    assert site.service is not None
    (live,) = site.service.associations()
    letters = await site.letters(f"receive-CLARA-{live.association_id}", lambda seen: total(seen) == 1)
    assert not has_end(letters)
    service = site.service

    async def queued() -> tuple[int, int]:
        (seen,) = service.associations()
        return seen.instances, seen.queued

    await until(queued, lambda seen: seen == (1, 0))
    await asyncio.to_thread(assoc.abort)
    ended = await site.letters(f"receive-CLARA-{live.association_id}", has_end)
    assert ended[-1].ended is not None
    assert ended[-1].ended.outcome is AssociationOutcome.ABORTED


async def test_temporal_may_be_away_for_the_whole_association(site: Site) -> None:
    site.temporal.gone = True
    await site.start()
    for _ in range(5):
        await site.send("1.2.3", "1.2.3")
    assert site.service is not None
    assert site.service.health().ready
    assert site.spool is not None
    ids = [folder.association_id for folder in site.spool.associations()]
    site.temporal.gone = False
    for association_id in ids:
        assert total(await site.letters(f"receive-CLARA-{association_id}", has_end)) == 2


async def test_what_was_not_told_before_a_restart_is_told_after_it(site: Site) -> None:
    site.temporal.gone = True
    await site.start()
    await site.send("1.2.3", "1.2.3")
    association_id = await site.only_association()
    await site.stop()
    site.temporal.gone = False
    await site.start()
    letters = await site.letters(f"receive-CLARA-{association_id}", has_end)
    assert total(letters) == 2


async def test_a_lost_index_is_made_again_from_the_files(site: Site) -> None:
    """The files alone suffice to rebuild everything that the receiver knew."""
    site.temporal.gone = True
    await site.start()
    await site.send("1.2.3", "1.2.3")
    association_id = await site.only_association()
    await site.stop()
    for file in site.root.glob("ownership.db*"):
        file.unlink()
    site.temporal.gone = False
    await site.start()
    assert total(await site.letters(f"receive-CLARA-{association_id}", has_end)) == 2


async def test_nothing_is_handed_over_before_what_an_earlier_run_left_is_in_the_index(site: Site) -> None:
    """Else a sender that comes back could be submitted before anybody knew of what it had sent before."""
    with Spool.open(site.root, SpoolRole.RECEIVER, durable=False) as spool:
        folder = spool.begin_association(facts())
        store(folder, 1)
        os.mkfifo(folder.path / "00000002-1.dcm")  # whoever reads it waits for a writer
    await site.start()
    assert site.spool is not None
    assert site.service is not None
    slow = await asyncio.to_thread((folder.path / "00000002-1.dcm").open, "wb")
    await site.send("1.2.3")
    hand_over = site.service._hand_over
    newest = max(each.association_id for each in site.spool.associations())
    await until(lambda: _ended(site, newest), bool)
    for _ in range(20):  # whatever it was about to do has had its turn
        await asyncio.wrap_future(hand_over.submit(hand_over.in_files_thread(int)))
    assert site.spool.usage().instances == 0
    (folder.path / "00000002-1.dcm").unlink()  # else it would be read again
    slow.close()
    await site.letters(f"receive-CLARA-{newest}", has_end)
    await site.letters(f"receive-CLARA-{folder.association_id}", has_end)
    batches = site.spool.unclaimed(0)
    assert [each.ref.association_id for each in batches] == [folder.association_id, newest]


async def _ended(site: Site, association_id: str) -> bool:
    assert site.spool is not None
    return site.spool.association(association_id).outcome is not None


@pytest.mark.parametrize(
    ("prepared_space_mb", "durable"),
    [(0, False), (20, False), (70, True)],
    ids=["in a new file", "in a prepared file", "too slow for a segment"],
)
async def test_an_arriving_instance_keeps_its_window_open_and_an_idle_association_does_not(
    site: Site, prepared_space_mb: int, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "file_system", lambda _: "ext4")
    site.configured = Configured(timeout=1.2, group_by="none")
    site.prepared_space_mb, site.durable = prepared_space_mb, durable
    await site.start()
    await until(site.prepared_sizes, lambda found: found == ({*SIZES} if prepared_space_mb else set()))
    await site.send("1.2.3")
    window = site.window("")
    await site.letters(window, has_end)
    assert site.service is not None
    with established(site.service.port) as peer:
        await asyncio.sleep(1.0)  # idle: nothing may be told for it, so there is nothing to wait for
        assert len(await site.temporal.letters(window)) == 1
        message = store_message("1.2.9", 50_000, pdu_length=1000)
        for at in range(0, len(message), 5000):
            await asyncio.to_thread(peer.sendall, message[at : at + 5000])
            await asyncio.sleep(0.2)
        kept_open = [one for one in await site.temporal.letters(window) if one == HandOver()]
        assert len(kept_open) >= 2
        assert peer.recv(1, socket.MSG_WAITALL) == b"\4"


async def test_instances_of_a_terminated_owner_are_handed_over_again(site: Site) -> None:
    await site.start()
    await site.send("1.2.3", "1.2.3")
    association_id = await site.only_association()
    workflow_id = f"receive-CLARA-{association_id}"
    letters = await site.letters(workflow_id, has_end)
    handle = site.temporal.client.get_workflow_handle(workflow_id)
    first = await handle.describe()
    assert site.spool is not None
    owner = Owner(workflow_id=workflow_id, run_id=first.run_id or "", group=1)
    site.spool.claim(owner, [batch.batch_id for letter in letters for batch in letter.batches])
    await asyncio.sleep(1.2)  # two reconciliations: an owner that runs keeps what it has
    assert len(site.spool.instances_of(owner)) == 2
    await handle.terminate()

    async def runs() -> str | None:
        return (await handle.describe()).run_id

    await until(runs, lambda run_id: run_id != first.run_id)
    again = await site.letters(workflow_id, has_end)
    assert total(again) == 2
    assert site.spool.instances_of(owner) == []


async def test_a_signal_that_temporal_has_forgotten_is_sent_again(site: Site) -> None:
    await site.start()
    await site.send("1.2.3")
    workflow_id = f"receive-CLARA-{await site.only_association()}"
    await site.letters(workflow_id, has_end)
    handle = site.temporal.client.get_workflow_handle(workflow_id)
    first = (await handle.describe()).run_id
    await handle.terminate()  # nobody has claimed anything

    async def runs() -> str | None:
        return (await handle.describe()).run_id

    await until(runs, lambda run_id: run_id != first)
    assert total(await site.letters(workflow_id, has_end)) == 1


async def test_a_submission_that_got_lost_is_started_again(site: Site) -> None:
    await site.start()
    await site.send("1.2.3")
    association_id = await site.only_association()
    letters = await site.letters(f"receive-CLARA-{association_id}", has_end)
    assert site.spool is not None
    receiver = Owner(workflow_id=f"receive-CLARA-{association_id}", run_id="gone", group=1)
    submission = SubmissionInput(
        submission_id=f"submission-CLARA-{association_id}",
        ae=site.configured.ae,
        calling_ae_title="CT1",
        nodes=(HeldNode(node_id=site.spool.node_id, instances=1, bytes=1),),
        instances=1,
        received_by=receiver.workflow_id,
    )
    site.spool.claim(receiver, [batch.batch_id for letter in letters for batch in letter.batches])
    site.spool.transfer(receiver, submission.owner, submission.model_dump_json())
    handle = site.temporal.client.get_workflow_handle(submission.submission_id)

    async def exists() -> bool:
        return bool([one async for one in site.temporal.client.list_workflows(f"WorkflowId = '{handle.id}'")])

    await until(exists, bool)
    described = await handle.describe()
    assert described.status is WorkflowExecutionStatus.RUNNING
    assert described.workflow_type == "SubmissionWorkflow"
    assert len(site.spool.instances_of(submission.owner)) == 1


async def test_a_running_workflow_is_told_again_what_it_has_never_heard_of(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored database of Temporal knows the workflow, and has forgotten signals that came after the backup."""
    monkeypatch.setattr(queues, "SHARED", f"test-{secrets.token_hex(8)}")
    await site.start()
    await site.send("1.2.3")
    workflow_id = f"receive-CLARA-{await site.only_association()}"
    async with Worker(site.temporal.client, task_queue=queues.SHARED, workflows=[Waiting]):
        await site.letters(workflow_id, lambda letters: total(letters) >= 2)  # nobody has claimed it
        assert site.spool is not None
        handle = site.temporal.client.get_workflow_handle(workflow_id)
        first = (await handle.describe()).raw_description.workflow_execution_info.first_run_id
        batches = {one.batch_id for letter in await site.temporal.letters(workflow_id) for one in letter.batches}
        site.spool.claim(Owner(workflow_id=workflow_id, run_id=first, group=1), list(batches))

        def ends(letters: list[HandOver]) -> int:
            return sum(1 for letter in letters if letter.ended)

        heard = ends(await site.temporal.letters(workflow_id))
        await site.letters(workflow_id, lambda letters: ends(letters) > heard + 1)  # but waits for the end
        await handle.terminate()


@pytest.mark.parametrize("step", ["_make_batches", "_rest"])
async def test_an_end_that_fails_unexpectedly_is_left_to_the_reconciler(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real, failed = getattr(HandingOver, step), []

    def fails(hand_over: HandingOver, *arguments: Any) -> Any:
        if any(trail.outcome is not None for trail in hand_over._trails.values()):
            failed.append(step)
            raise RuntimeError("nobody expected this")
        return real(hand_over, *arguments)

    monkeypatch.setattr(HandingOver, step, fails)
    await site.start()
    await site.send("1.2.3")
    letters = await site.letters(f"receive-CLARA-{await site.only_association()}", has_end)
    assert total(letters) >= 1
    assert failed


async def test_one_file_that_cannot_be_read_keeps_nobody_else_back(site: Site) -> None:
    site.temporal.gone = True
    await site.start()
    await site.send("1.2.3", "1.2.3")
    await site.only_association()
    await site.send("1.2.4")
    await site.stop()
    for file in site.root.glob("ownership.db*"):
        file.unlink()
    with Spool.open(site.root, SpoolRole.RECEIVER, durable=False) as spool:
        first, second = spool.associations()
        found = list(first.stored())
        found[0].path.write_bytes(b"not what was stored")
        ids = [first.association_id, second.association_id]
    site.temporal.gone = False
    await site.start()
    for association_id in ids:
        assert total(await site.letters(f"receive-CLARA-{association_id}", has_end)) >= 1
