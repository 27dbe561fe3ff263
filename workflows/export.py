"""From a task of the Results Service to objects at their destinations, and a report that is true.

Download to a node, send from that node to every destination side by side, decide, report. What can fail for good is
reported first and then waits for a person, with the objects kept for a while. If the node that holds the download goes
away, the run starts over on another one; what a destination has confirmed is not sent again.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeout

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.activities.export import ExportActivities
    from clara_dicom_adapter.activities.results import ResultsActivities
    from clara_dicom_adapter.temporal import queues
    from clara_dicom_adapter.temporal.attributes import State
    from clara_dicom_adapter.workflows import policies
    from clara_dicom_adapter.workflows.models import (
        Answer,
        CleanInput,
        DiscardInput,
        ExportDecision,
        ExportDecisionInput,
        ExportInput,
        ExportResult,
        ExportStatus,
        FetchInput,
        FetchResult,
        NoteExportInput,
        Offered,
        PlaceInput,
        ReportInput,
        RetryInput,
        SendElsewhereInput,
        SendInput,
        SendResult,
    )

from clara_dicom_adapter.workflows.nodes import run_if_there, what_failed
from clara_dicom_adapter.workflows.visible import show

HELP = """The export failed for good, and waits for a person. Send one of these updates:

- `retry` with `{}` or `{"item": "DESTINATION"}`: send again what a destination did not get
- `send_elsewhere` with `{"destination": "NAME"}`: send everything to another destination instead
- `discard` with `{"reason": "..."}`: give it up

On the command line: `clara dicom attention`."""
"""For the Temporal UI."""

WAITED_FOR = ("PlatformUnreachable", "StorageFull", "DatabaseUnavailable", "KubernetesUnavailable")
"""What downloading and sending wait for without end: no one has refused anything."""


@workflow.defn
class ExportWorkflow:
    """See to it that one task's objects reach their destinations, and that the task is reported."""

    @workflow.init
    def __init__(self, export: ExportInput) -> None:
        self._export = export
        self._state = State.EXPORTING
        self._fetched = FetchResult(node_id="", objects=0, downloaded=0, destinations=())
        self._node = ""
        """Where the objects are; empty before, and when that node has gone away."""
        self._nodes = dict.fromkeys(export.nodes)
        """Where something of the task may have been left, in the order of the downloads."""
        self._results: dict[str, SendResult] = {}
        """Of the destinations of the newest download, by name without case."""
        self._round = 0
        self._newest_offer = export.offer
        self._settled_offer = 0
        """The newest offer of which this workflow has made the report, or found it made."""
        self._reported = False
        self._message = ""
        self._notes: list[str] = []
        self._waits_for_person = False
        self._answer: RetryInput | SendElsewhereInput | DiscardInput | None = None
        self._named: tuple[str, ...] = ()
        """Destinations that a person has named; empty: those of the task."""

    @workflow.run
    async def run(self, export: ExportInput) -> ExportResult:
        """Fetch, send, decide, report; then wait for a person if that was the task's last chance."""
        self._show(State.EXPORTING)
        await self._deliver()
        # offer 0: the records do not know the task (any more), so no offer of it can be worked on
        self._settled_offer = self._fetched.offer or self._newest_offer
        success = False
        if self._fetched.open:
            decision = await self._decide()
            await self._report(decision)
            success = decision.success
            if not success and not decision.retry_later:
                success = await self._wait_for_person()
            elif success:
                self._show(State.EXPORTED)
            else:
                self._notes.append("reported for another attempt; the Results Service will offer the task again")
                self._show(State.EXPORT_FAILED)
            await self._note()
        await self._clean()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._is_offered_anew():
            workflow.continue_as_new(self._as_new())
        sent = sum(result.sent for result in self._results.values())
        failed = sum(self._fetched.objects - result.sent for result in self._results.values())
        return ExportResult(task_id=export.task_id, success=success, sent=sent, failed=failed, message=self._message)

    # ---- download and send ----

    async def _deliver(self, *, again: bool = False, only: str | None = None) -> None:
        """Download and send once, starting over as long as nodes go away with what they had downloaded."""
        while True:
            fetched = await self._fetch(again=again)
            if again and not fetched.open:
                problem = "the records do not know the task (any more); nothing can be sent, and the objects are kept"
                fetched = self._fetched.model_copy(update={"problem": problem})
            self._fetched = fetched
            if not self._fetched.open or self._fetched.problem:
                return
            self._show(State.EXPORTING)
            self._round += 1
            before = self._results
            names = {name.casefold(): name for name in self._fetched.destinations}
            self._results = {
                key: before[key].model_copy(update={"destination": name})
                for key, name in names.items()
                if key in before
            }
            # one that has no result yet is sent to in any case: it may have taken the place of the one that was meant
            wanted = [
                name
                for key, name in names.items()
                if only is None or key == only.casefold() or key not in self._results
            ]
            results = await asyncio.gather(*(self._send(name) for name in wanted))
            self._results.update({result.destination.casefold(): result for result in results if result})
            if all(results):
                return
            self._lose_node("went away with the downloaded objects; started over")

    async def _fetch(self, *, again: bool) -> FetchResult:
        """Download: where the objects are already, when there is such a node, else where there is room."""
        request = FetchInput(
            task_id=self._export.task_id, agent=self._export.agent, again=again, destinations=self._named
        )
        unforeseen = 0
        while True:
            if workflow.info().is_continue_as_new_suggested() and not again:
                workflow.continue_as_new(self._as_new())
            try:
                fetched = await self._fetch_once(request)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                kind, self._message = what_failed(error)
                if kind not in WAITED_FOR and not isinstance(error.cause, ActivityTimeout):
                    unforeseen += 1
                    if unforeseen >= policies.UNFORESEEN_FETCHES:
                        return self._fetched.model_copy(
                            update={
                                "open": True,
                                "offer": max(1, self._newest_offer, self._fetched.offer),
                                "problem": f"the download failed: {self._message}",
                                "may_pass": True,
                            }
                        )
                self._show(State.WAITING_FOR_PLATFORM if kind == "PlatformUnreachable" else State.EXPORTING)
                await workflow.sleep(policies.FETCH_PAUSE)
                if kind == "StorageFull" and not again:
                    self._node = ""  # another one may have room
            else:
                if fetched is None:
                    continue
                if again and fetched.downloaded < self._fetched.downloaded:
                    self._node = self._fetched.node_id  # it keeps what the platform has removed, and may come back
                self._message = ""
                return fetched

    async def _fetch_once(self, request: FetchInput) -> FetchResult | None:
        """None when the node does not answer; the next one will be another."""
        # a node that keeps the objects is waited for: the platform may not have them any more
        patience = policies.NODE_PATIENCE if self._node and request.again else None
        if not self._node:
            placed = await workflow.execute_activity_method(
                ExportActivities.place, PlaceInput(task_id=self._export.task_id), **policies.PLACE
            )
            self._node = placed.node_id
            self._nodes[self._node] = None
        fetched = await run_if_there(
            ExportActivities.fetch,
            request,
            _at(self._node, policies.FETCH),
            patience,
            lambda: self._show(State.WAITING_FOR_NODE),
        )
        if fetched is None:
            self._lose_node("does not answer; the objects are downloaded to another one")
        return fetched

    def _lose_node(self, what: str) -> None:
        self._notes.append(f"node {self._node} {what}")
        self._node = ""
        self._show(State.EXPORTING)

    async def _send(self, destination: str) -> SendResult | None:
        """Send to one destination from the node that has the objects; None when the node, or its download, is gone."""
        request = SendInput(
            task_id=self._export.task_id,
            agent=self._export.agent,
            destination=destination,
            offer=self._fetched.offer,
            round=self._round,
        )
        while True:
            try:
                result = await run_if_there(
                    ExportActivities.send,
                    request,
                    _at(self._fetched.node_id, policies.SEND),
                    policies.NODE_PATIENCE,
                    lambda: self._show(State.WAITING_FOR_NODE),
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                kind, reason = what_failed(error)
                if kind == "DownloadsLost":
                    return None
                if kind in WAITED_FOR:
                    self._message = reason
                    await workflow.sleep(policies.FETCH_PAUSE)
                    continue
                message = f"sending failed: {reason}"
                return SendResult(destination=destination, sent=0, failed=self._fetched.downloaded, message=message)
            if result is not None:
                self._show(State.EXPORTING)
            return result

    # ---- decide and report ----

    async def _decide(self) -> ExportDecision:
        decision = await workflow.execute_local_activity_method(
            ExportActivities.decide,
            ExportDecisionInput(
                task_id=self._export.task_id, fetched=self._fetched, sent=tuple(self._results.values())
            ),
            **policies.LOCAL,
        )
        self._message = decision.message
        self._results = {result.destination.casefold(): result for result in decision.sent}
        return decision

    async def _report(self, decision: ExportDecision) -> None:
        """Until the Results Service has it; a task is never left unreported."""
        request = ReportInput(
            task_id=self._export.task_id,
            agent=self._export.agent,
            success=decision.success,
            retry_later=decision.retry_later,
            message=decision.message,
            offer=self._fetched.offer,
        )
        try:
            answer = await workflow.execute_activity_method(ResultsActivities.report, request, **policies.REPORT)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            kind, reason = what_failed(error)
            if kind == "ResultsServiceUnreachable":
                self._notes.append(f"the report had to wait: {reason}")
                self._show(State.WAITING_FOR_RESULTS_SERVICE)
                await self._note()
            answer = await workflow.execute_activity_method(
                ResultsActivities.report, request, **policies.REPORT_WAITING
            )
        self._reported = True
        if not answer.accepted:
            self._notes.append(f"the Results Service refused the report: {answer.message}")

    # ---- a person decides ----

    async def _wait_for_person(self) -> bool:
        """Keep the objects until someone answers, the time is up, or the task is offered anew; True when exported."""
        while True:
            self._show(State.NEEDS_ATTENTION)
            await self._note()
            self._answer = None
            self._waits_for_person = True
            workflow.set_current_details(HELP)
            kept = timedelta(seconds=self._fetched.retention_seconds)
            in_time = True
            try:
                await workflow.wait_condition(lambda: self._answer is not None or self._is_offered_anew(), timeout=kept)
            except TimeoutError:
                in_time = False
            # not in a finally: that runs, too, when a worker ends and drops the workflow, which is no workflow then
            self._waits_for_person = False
            workflow.set_current_details("")
            if not in_time:
                self._notes.append(f"nobody answered for {kept.total_seconds() / 3600:g} h; the objects were removed")
                self._show(State.EXPORT_FAILED)
                return False
            if self._answer is None:
                self._notes.append("the Results Service offers the task again")
                self._show(State.EXPORT_FAILED)
                return False
            if isinstance(self._answer, DiscardInput):
                self._notes.append(f"discarded: {self._answer.reason or 'no reason given'}")
                self._show(State.DISCARDED)
                return False
            self._show(State.EXPORTING)
            if isinstance(self._answer, SendElsewhereInput):
                await self._deliver_elsewhere(self._answer)
            else:
                await self._deliver(again=True, only=self._answer.item)
            decision = await self._decide()
            if decision.success:
                self._notes.append("sent after its failure had been reported; the Results Service knows it as failed")
                self._show(State.EXPORTED)
                return True

    async def _deliver_elsewhere(self, request: SendElsewhereInput) -> None:
        """Replace one destination, or all that lack something, by another one; an unknown name changes nothing."""
        before, named = self._fetched, self._named
        whole = {key for key, result in self._results.items() if result.sent == before.objects}
        one = request.instead_of.casefold() if request.instead_of else ""
        replaced = {
            name for name in before.destinations if (name.casefold() == one if one else name.casefold() not in whole)
        }
        self._named = (*(name for name in before.destinations if name not in replaced), request.destination)
        await self._deliver(again=True, only=request.destination)
        if self._fetched.problem:
            self._fetched, self._named = before.model_copy(update={"problem": self._fetched.problem}), named
            return
        instead = f" instead of {', '.join(sorted(replaced))}" if replaced else ""
        self._notes.append(f"sent to {request.destination}{instead}, as a person asked")

    @workflow.update(description="Send again what failed, to all destinations or to the one named as item.")
    def retry(self, request: RetryInput) -> Answer:
        """Send again what failed, to all destinations or to the one named."""
        self._answer = request
        failed = sum(
            self._fetched.objects - result.sent
            for result in self._results.values()
            if request.item is None or request.item.casefold() == result.destination.casefold()
        )
        return Answer(
            changed=failed or self._fetched.objects,
            message="what failed is sent again; the task is closed at the Results Service, nothing more is told to it",
        )

    @retry.validator
    def _may_retry(self, request: RetryInput) -> None:
        self._must_wait()
        self._must_be_ours(request.item)

    @workflow.update(
        description="Send everything to another destination, instead of all that lack something or of one."
    )
    def send_elsewhere(self, request: SendElsewhereInput) -> Answer:
        """Send everything to another destination."""
        self._answer = request
        return Answer(
            changed=self._fetched.objects,
            message=f"sent to {request.destination}; the Results Service, which closed the task, is told nothing more",
        )

    @send_elsewhere.validator
    def _may_send_elsewhere(self, request: SendElsewhereInput) -> None:
        self._must_wait()
        self._must_be_ours(request.instead_of)

    @workflow.update(description="Give the export up and remove its objects.")
    def discard(self, request: DiscardInput) -> Answer:
        """Give the export up and remove its objects."""
        self._answer = request
        return Answer(changed=1, message="the export was given up; its objects are removed")

    @discard.validator
    def _may_discard(self, request: DiscardInput) -> None:
        self._must_wait()
        if request.item is not None:
            raise ApplicationError("an export is discarded as a whole")

    def _must_wait(self) -> None:
        if not self._waits_for_person or self._answer is not None:
            raise ApplicationError(f"this export does not wait for a person; it is {self._state.value}")

    def _must_be_ours(self, destination: str | None) -> None:
        names = {name.casefold() for name in self._fetched.destinations}
        if destination is not None and destination.casefold() not in names:
            known = ", ".join(self._fetched.destinations) or "none"
            raise ApplicationError(f"this export has no destination {destination}; it has: {known}")

    def _is_offered_anew(self) -> bool:
        return self._newest_offer > self._settled_offer

    @workflow.signal
    def offered(self, offer: Offered) -> None:
        """The Results Service offers the task; only an offer newer than the one worked on means anything."""
        self._newest_offer = max(self._newest_offer, offer.offer)

    # ---- what an operator sees, and the end ----

    @workflow.query
    def status(self) -> ExportStatus:
        return ExportStatus(
            state=self._state.value,
            node_id=self._fetched.node_id,
            objects=self._fetched.objects,
            downloaded=self._fetched.downloaded,
            destinations=tuple(self._results.values()),
            reported=self._reported,
            message=self._message,
            notes=tuple(self._notes),
        )

    def _show(self, state: State) -> None:
        self._state = state
        show(
            state,
            ae_title=self._fetched.ae_title,
            instances=self._fetched.objects,
            pipelines=[self._fetched.pipeline] if self._fetched.pipeline else [],
            job_ids=[self._fetched.job_id] if self._fetched.job_id else [],
            destinations=self._fetched.destinations,
            node_id=self._fetched.node_id,
        )

    async def _note(self) -> None:
        message = "; ".join(filter(None, (self._message, *self._notes)))
        await workflow.execute_local_activity_method(
            ExportActivities.note,
            NoteExportInput(task_id=self._export.task_id, state=self._state.value, message=message),
            **policies.LOCAL,
        )

    async def _clean(self) -> None:
        """Remove what was left on each node; one that is away sweeps when it comes back."""
        await asyncio.gather(*(self._clean_node(node_id) for node_id in tuple(self._nodes)))

    async def _clean_node(self, node_id: str) -> None:
        config = workflow.ActivityConfig(**{**policies.CLEAN, "task_queue": queues.node(node_id)})
        try:
            await workflow.execute_activity_method(
                ExportActivities.clean, CleanInput(task_id=self._export.task_id), **config
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._notes.append(f"node {node_id} is away; what it keeps is removed when it comes back")
        else:
            del self._nodes[node_id]

    def _as_new(self) -> ExportInput:
        return self._export.model_copy(update={"nodes": tuple(self._nodes), "offer": self._newest_offer})


def _at(node_id: str, config: workflow.ActivityConfig) -> workflow.ActivityConfig:
    return workflow.ActivityConfig(**{**config, "task_queue": queues.exports(node_id)})
