"""ReceiveWorkflows on a real Temporal server, spool and database; what they submit is only noted."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from clara_dicom_adapter.activities.interceptor import ErrorInterceptor
from clara_dicom_adapter.activities.reception import ReceptionActivities
from clara_dicom_adapter.activities.starting import SubmissionStarter
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.held import HeldGroups
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.spool import AssociationFolder, OwnerSummary, Spool, SpoolRole, new_association_id
from clara_dicom_adapter.spool.node import SITE_KEY
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.models import (
    AssociationEnd,
    AssociationOutcome,
    BatchRef,
    HandOver,
    Owner,
    PinnedAeTitle,
    ReceiveInput,
    ReceiveResult,
    SenderIsBackInput,
    SenderIsBackResult,
    SubmissionInput,
    SubmissionResult,
)
from clara_dicom_adapter.workflows.receive import ReceiveWorkflow
from support.spooling import batched, facts

Handle = WorkflowHandle[ReceiveWorkflow, ReceiveResult]
SENDER = "sender"


@workflow.defn(name="SubmissionWorkflow", sandboxed=False)
class NotedSubmission:
    """Takes a group and leaves it where it is."""

    @workflow.run
    async def run(self, submission: SubmissionInput) -> SubmissionResult:
        return SubmissionResult(jobs=(), instances=submission.instances)


class CountingRegister(HeldGroups):
    """Counts how often each workflow has looked for what its sender left behind."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.looks: Counter[str] = Counter()

    def take(self, owner: Owner, *arguments: Any, **names: Any) -> Any:
        self.looks[owner.workflow_id] += 1
        return super().take(owner, *arguments, **names)


class CountingActivities(ReceptionActivities):
    """Counts how often a hold was about to end and its sender was looked for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked = 0

    @activity.defn
    def sender_is_back(self, request: SenderIsBackInput) -> SenderIsBackResult:
        self.asked += 1
        return super().sender_is_back(request)


class Bench:
    """A spool, and what a receiver tells of it."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool.open(root / "spool", SpoolRole.WORKER)
        (self.spool.root / SITE_KEY).write_text("5e" * 32, encoding="ascii")
        self.engine = open_engine("", DataFolder(root))
        self.held = CountingRegister(self.engine)
        self.workflow_id = f"receive-CLARA-{uuid.uuid4().hex[:16]}"
        self._activities: list[CountingActivities] = []

    @property
    def asked(self) -> int:
        """How often a hold was about to end and its sender was looked for."""
        return sum(activities.asked for activities in self._activities)

    def activities(self, client: Client) -> CountingActivities:
        """What the workflows of a worker call."""
        one = CountingActivities(self.spool, ReceptionRecords(self.engine), self.held, SubmissionStarter(client))
        self._activities.append(one)
        return one

    def close(self) -> None:
        self.engine.dispose()
        self.spool.close()

    def association(self) -> AssociationFolder:
        return self.spool.begin_association(facts())

    def associations(self, count: int) -> list[AssociationFolder]:
        """Associations of one sender, in the order in which they began."""
        return [self.spool.begin_association(facts(one)) for one in sorted(new_association_id() for _ in range(count))]

    def stored(self, folder: AssociationFolder, instances: int) -> HandOver:
        """For the window."""
        return HandOver(batches=(batched(self.spool, folder, instances, self.workflow_id),))

    def batch(self, folder: AssociationFolder, instances: int, ae: PinnedAeTitle) -> BatchRef:
        """For the association's own workflow."""
        start = self.start(folder, ae)
        return batched(self.spool, folder, instances, own_workflow(folder), start.model_dump_json())

    @staticmethod
    def start(folder: AssociationFolder, ae: PinnedAeTitle) -> ReceiveInput:
        association_id = folder.association_id
        return ReceiveInput(ae=ae, calling_ae_title="CT1", association_id=association_id, sender_key=SENDER)

    def over(self, folder: AssociationFolder, outcome: AssociationOutcome, instances: int) -> HandOver:
        end = AssociationEnd(
            association_id=folder.association_id,
            node_id=self.spool.node_id,
            sender_key=SENDER,
            outcome=outcome,
            instances=instances,
        )
        return HandOver(ended=end)

    def owners(self) -> list[OwnerSummary]:
        return self.spool.owners()


def own_workflow(folder: AssociationFolder) -> str:
    return names.association_reception("CLARA", folder.association_id)


@asynccontextmanager
async def working(client: Client, bench: Bench) -> AsyncIterator[str]:
    """A worker; gives its task queue."""
    one = bench.activities(client)
    activities: list[Callable[..., Any]] = [
        one.claim,
        one.outstanding,
        one.merge_held,
        one.sender_is_back,
        one.take_over,
        one.hold,
        one.end_hold,
        one.transfer,
        one.release,
        one.note,
    ]
    queue = f"test-{uuid.uuid4().hex}"
    with ThreadPoolExecutor(8) as threads:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[ReceiveWorkflow, NotedSubmission],
            activities=activities,
            activity_executor=threads,
            interceptors=[ErrorInterceptor()],
        ):
            yield queue


async def begin(client: Client, queue: str, workflow_id: str, start: ReceiveInput, delivered: HandOver) -> Handle:
    """Signal-with-start, as the receiver does."""
    return await client.start_workflow(
        ReceiveWorkflow.run,
        start,
        id=workflow_id,
        task_queue=queue,
        start_signal="hand_over",
        start_signal_args=[delivered],
    )


@asynccontextmanager
async def receiving(client: Client, bench: Bench, ae: PinnedAeTitle) -> AsyncIterator[Handle]:
    """Run the workflow of a window with a worker of its own; it must be told something at once."""
    async with working(client, bench) as queue:
        start = ReceiveInput(ae=ae, calling_ae_title="CT1", association_id=None)
        handle = await begin(client, queue, bench.workflow_id, start, HandOver())
        try:
            yield handle
        finally:
            if (await handle.describe()).status == 1:
                await handle.terminate()


def changed(**fields: object) -> PinnedAeTitle:
    """The AE title of the bench with some settings of the test's."""
    return facts().ae.model_copy(update=fields)


async def until(handle: Handle, state: State) -> None:
    """Wait for a workflow's state."""
    async with asyncio.timeout(60):
        while (await handle.query(ReceiveWorkflow.status)).state != state.value:
            await asyncio.sleep(0.05)
