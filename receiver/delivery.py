"""Letters to ReceiveWorkflows: what is to be told to which, until Temporal has accepted it.

How it works: letters to one workflow are gathered while an earlier one is on its way, so that a burst becomes few
signals; a semaphore bounds how many are on their way at once. While Temporal cannot be reached, all wait behind one
gate that opens from time to time. Lives in one event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.receiver.metrics import ReceiverMetrics
from clara_dicom_adapter.temporal import queues
from clara_dicom_adapter.workflows.models import AssociationEnd, BatchRef, HandOver, ReceiveInput

log = structlog.get_logger("clara_dicom_adapter.receiver")

_WORKFLOW = "ReceiveWorkflow"
_SIGNAL = "hand_over"
_AT_ONCE = 4
_BATCHES_PER_LETTER = 100
"""A batch reference is some 200 bytes; a signal stays far below what a history event may carry."""
_CALL_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_THE_LETTERS_OWN_FAULT = frozenset({RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION})

Connect = Callable[[], Awaitable[Client]]


@dataclass
class _Box:
    """What has not been told yet to one workflow."""

    start: ReceiveInput
    batches: list[BatchRef] = field(default_factory=list[BatchRef])
    batch_ids: set[str] = field(default_factory=set[str])
    ends: list[AssociationEnd] = field(default_factory=list[AssociationEnd])
    busy: bool = False

    def take(self) -> HandOver:
        """The next letter; an association's end never leaves before its batches."""
        batches = tuple(self.batches[:_BATCHES_PER_LETTER])
        rest = self.batches[_BATCHES_PER_LETTER:]
        return HandOver(batches=batches, ended=self.ends[0] if self.ends and not rest else None)

    def told(self, letter: HandOver) -> None:
        del self.batches[: len(letter.batches)]
        self.batch_ids.difference_update(batch.batch_id for batch in letter.batches)
        if letter.ended is not None:
            del self.ends[0]

    @property
    def empty(self) -> bool:
        return not self.batches and not self.ends


class Delivery:
    """Delivers letters, however long it takes."""

    def __init__(self, connect: Connect, accepted: Callable[[str, HandOver], None], metrics: ReceiverMetrics) -> None:
        """Args:
        accepted: Called in a worker thread with the workflow's id and what it has been told.
        """
        self._connect = connect
        self._accepted = accepted
        self._metrics = metrics
        self._client: Client | None = None
        self._boxes: dict[str, _Box] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._connecting = asyncio.Lock()
        self._gate = asyncio.Event()
        self._gate.set()
        self._pause = _FIRST_PAUSE_SECONDS
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.reachable = True
        """Whether the last call to Temporal was answered."""

    @property
    def waiting(self) -> int:
        """Workflows that have something to be told."""
        return len(self._boxes)

    def batch_ids(self) -> set[str]:
        """The batches that are on their way."""
        return set().union(*(box.batch_ids for box in self._boxes.values()))

    def is_on_its_way(self, workflow_id: str, batch_id: str) -> bool:
        """Whether a workflow is about to be told of a batch."""
        box = self._boxes.get(workflow_id)
        return box is not None and batch_id in box.batch_ids

    def ends(self) -> set[tuple[str, str]]:
        """The ends that are on their way: association id and workflow id."""
        return {(end.association_id, workflow_id) for workflow_id, box in self._boxes.items() for end in box.ends}

    def post(
        self, workflow_id: str, start: ReceiveInput, batches: list[BatchRef], ended: AssociationEnd | None
    ) -> None:
        """Have something told to a workflow."""
        box = self._boxes.setdefault(workflow_id, _Box(start))
        box.batches.extend(batches)
        box.batch_ids.update(batch.batch_id for batch in batches)
        if ended is not None:
            box.ends.append(ended)
        if not box.busy and not box.empty:
            box.busy = True
            self._idle.clear()
            self._spawn(self._deliver(workflow_id, box))

    async def keep_alive(self, workflow_id: str) -> None:
        """Tell a window that something is arriving for it; when it has closed there is nothing to keep alive."""
        if not self._gate.is_set():
            return
        try:
            await asyncio.wait_for(self._signal(await self.client(), workflow_id, HandOver()), _CALL_SECONDS)
        except (RPCError, AdapterError, RuntimeError, OSError) as error:
            log.debug("keep_alive_failed", workflow_id=workflow_id, error=type(error).__name__)

    async def client(self) -> Client:
        """The Temporal client; connects when it has not yet."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def wait_until_idle(self, seconds: float) -> bool:
        """Wait until everything has been told."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, workflow_id: str, box: _Box) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not box.empty:
            letter = box.take()
            try:
                async with self._at_once:
                    await self._gate.wait()
                    await self._tell(workflow_id, box.start, letter)
            except (RPCError, AdapterError, RuntimeError, OSError) as error:
                if isinstance(error, RPCError) and error.status in _THE_LETTERS_OWN_FAULT:
                    log.error("hand_over_refused", workflow_id=workflow_id, error=str(error)[:300])
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                else:
                    self._close_gate(error)
                continue
            pause = _FIRST_PAUSE_SECONDS
            self._went_through()
            self._metrics.handed_over.inc(sum(batch.instances for batch in letter.batches))
            await self._note_accepted(workflow_id, letter)
            box.told(letter)
        box.busy = False
        del self._boxes[workflow_id]
        if not self._boxes:
            self._idle.set()

    async def _note_accepted(self, workflow_id: str, letter: HandOver) -> None:
        try:
            await asyncio.to_thread(self._accepted, workflow_id, letter)
        except (AdapterError, OSError) as error:
            # told again by the next reconciliation; whoever has claimed them recognises that
            log.warning("hand_over_not_noted", error=str(error)[:300])

    async def _tell(self, workflow_id: str, start: ReceiveInput, letter: HandOver) -> None:
        client = await self.client()
        if not letter.batches:
            await asyncio.wait_for(self._signal(client, workflow_id, letter), _CALL_SECONDS)
            return
        await asyncio.wait_for(
            client.start_workflow(
                _WORKFLOW,
                start,
                id=workflow_id,
                task_queue=queues.SHARED,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                start_signal=_SIGNAL,
                start_signal_args=[letter],
            ),
            _CALL_SECONDS,
        )

    async def _signal(self, client: Client, workflow_id: str, letter: HandOver) -> None:
        # its batches went before it: a workflow that is not there has closed, and must not be started again for nothing
        try:
            await client.get_workflow_handle(workflow_id).signal(_SIGNAL, letter)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    def _close_gate(self, error: BaseException) -> None:
        self._metrics.hand_over_failures.inc()
        if self.reachable:
            log.warning("temporal_unreachable", error=str(error)[:300], waiting=len(self._boxes))
        self.reachable = False
        if self._gate.is_set():
            self._gate.clear()
            asyncio.get_running_loop().call_later(self._pause, self._gate.set)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def _went_through(self) -> None:
        if not self.reachable:
            log.info("temporal_reachable", waiting=len(self._boxes))
        self.reachable = True
        self._pause = _FIRST_PAUSE_SECONDS
