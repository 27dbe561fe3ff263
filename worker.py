"""Composition root of the worker: settings, clients, activities, Temporal workers; ``python worker.py`` runs it."""

import asyncio
import gc
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Worker

from clara_dicom_adapter.activities.export import ExportActivities
from clara_dicom_adapter.activities.following import FollowingActivities
from clara_dicom_adapter.activities.interceptor import ErrorInterceptor
from clara_dicom_adapter.activities.metrics import WorkerMetrics
from clara_dicom_adapter.activities.pulse import PulseInterceptor
from clara_dicom_adapter.activities.reception import ReceptionActivities
from clara_dicom_adapter.activities.results import ResultsActivities
from clara_dicom_adapter.activities.starting import SubmissionStarter
from clara_dicom_adapter.activities.submission import SubmissionActivities
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.clara.results import ResultsServiceClient
from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.configuration.settings import Settings
from clara_dicom_adapter.configuration.web_destinations import EveryDestination
from clara_dicom_adapter.records.exports import ExportRecords
from clara_dicom_adapter.records.held import HeldGroups
from clara_dicom_adapter.records.jobs import JobRecords
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.spool import Spool
from clara_dicom_adapter.spool.space import StorageSpace
from clara_dicom_adapter.temporal import queues
from clara_dicom_adapter.workflows import names, sandbox
from clara_dicom_adapter.workflows.export import ExportWorkflow
from clara_dicom_adapter.workflows.job_follower import JobFollowerWorkflow
from clara_dicom_adapter.workflows.models import PollerInput
from clara_dicom_adapter.workflows.receive import ReceiveWorkflow
from clara_dicom_adapter.workflows.results_poller import ResultsPollerWorkflow
from clara_dicom_adapter.workflows.submission import SubmissionWorkflow

log = structlog.get_logger("clara_dicom_adapter.worker")

SHARED_ACTIVITIES = 48
"""Threads for transactions and short calls; downloads and reports have their own."""
NODE_ACTIVITIES = 16
"""Threads for uploads, which must not keep the short ones waiting."""
WAITING_EXPORTS = 1000
"""Exports that download, send or wait for their turn; they hold no thread while they wait."""
WORKFLOW_TASKS = 8
"""At once. The clock of a task runs from when it is taken, so more of them are not done sooner: they time out."""


@dataclass(frozen=True)
class WorkerParts:
    """What a worker is made of."""

    settings: Settings
    temporary: Path
    spool: Spool
    engine: Engine
    configuration: Configuration
    client: Client
    platform: PlatformClient
    results: ResultsServiceClient
    metrics: WorkerMetrics


def build(
    parts: WorkerParts,
    export: ExportActivities,
    following: FollowingActivities,
    threads: ThreadPoolExecutor,
    node_threads: ThreadPoolExecutor,
) -> list[Worker]:
    """The worker of the shared queue and those of the nodes whose instances are here."""
    reception = ReceptionActivities(
        parts.spool, ReceptionRecords(parts.engine), HeldGroups(parts.engine), SubmissionStarter(parts.client)
    )
    submission = SubmissionActivities(
        parts.spool,
        SubmissionRecords(parts.engine),
        parts.platform,
        parts.settings.services.platform,
        parts.configuration.clara_ae_titles,
    )
    results = ResultsActivities(
        parts.client, parts.results, ExportRecords(parts.engine), parts.settings.dicom.scu.export.poll_frequency_ms
    )
    on_spool: list[Callable[..., Any]] = [
        reception.claim,
        reception.outstanding,
        reception.merge_held,
        reception.sender_is_back,
        reception.take_over,
        reception.hold,
        reception.transfer,
        reception.release,
        reception.restore,
        submission.add_metadata,
        submission.finish,
    ]
    anywhere: list[Callable[..., Any]] = [
        reception.end_hold,
        reception.note,
        submission.plan,
        submission.create_job,
        submission.start_job,
        submission.submit_job,
        submission.wait_for_platform,
        submission.note,
        export.place,
        export.decide,
        export.note,
        results.report,
    ]
    shared = Worker(
        parts.client,
        task_queue=queues.SHARED,
        workflows=[ReceiveWorkflow, SubmissionWorkflow, ExportWorkflow, ResultsPollerWorkflow, JobFollowerWorkflow],
        activities=[*on_spool, *anywhere, results.poll, following.follow],
        activity_executor=threads,
        workflow_runner=sandbox.runner(),
        max_concurrent_workflow_tasks=WORKFLOW_TASKS,
        interceptors=[ErrorInterceptor(), PulseInterceptor()],
    )
    nodes = [
        Worker(
            parts.client,
            task_queue=queues.node(node_id),
            activities=[*on_spool, submission.upload, export.clean],
            activity_executor=node_threads,
            max_concurrent_activities=NODE_ACTIVITIES,
            interceptors=[ErrorInterceptor(), PulseInterceptor()],
        )
        for node_id in parts.spool.node_ids  # an adopted spool brings its queue along
    ]
    exports = [
        Worker(
            parts.client,
            task_queue=queues.exports(node_id),
            activities=[export.fetch, export.send],
            max_concurrent_activities=WAITING_EXPORTS,
            interceptors=[ErrorInterceptor()],
        )
        for node_id in parts.spool.node_ids
    ]
    return [shared, *nodes, *exports]


def export_activities(parts: WorkerParts) -> ExportActivities:
    """What downloads and sends on this node."""
    return ExportActivities(
        store=ExportRecords(parts.engine),
        destinations=EveryDestination(parts.configuration.destinations, parts.engine),
        downloads=parts.platform,
        space=StorageSpace(parts.temporary, parts.settings.storage),
        scu=parts.settings.dicom.scu,
        temporary=parts.temporary,
        node_id=parts.spool.node_id,
    )


def following_activities(parts: WorkerParts) -> FollowingActivities:
    """What follows started jobs."""
    return FollowingActivities(
        parts.platform,
        JobRecords(parts.engine),
        parts.settings.services.platform.job_poll_interval_seconds,
        parts.metrics.job_ended,
    )


async def run(parts: WorkerParts, ready: Callable[[], None]) -> None:
    """Work until SIGTERM or SIGINT, then finish what is at hand.

    Args:
        ready: Called once the workers poll.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with (
        ThreadPoolExecutor(SHARED_ACTIVITIES, thread_name_prefix="shared") as shared,
        ThreadPoolExecutor(NODE_ACTIVITIES, thread_name_prefix="node") as node,
    ):
        async with AsyncExitStack() as workers:
            export, following = export_activities(parts), following_activities(parts)
            for worker in build(parts, export, following, shared, node):
                await workers.enter_async_context(worker)
            await _start_pollers(parts)
            await export.sweep(parts.client)
            # what has been imported stays for good: a collection that goes through it takes a tenth of a second
            gc.collect()
            gc.freeze()
            log.info("worker_ready", node_id=parts.spool.node_id)
            ready()
            watch = asyncio.create_task(following.keep_following(parts.client))
            await stop.wait()
            watch.cancel()


async def _start_pollers(parts: WorkerParts) -> None:
    """See to it that each of our agents has a results poller; whoever comes first starts it."""
    scu = parts.settings.dicom.scu
    for agent in dict.fromkeys((scu.ae_title, scu.export.agent)):
        await parts.client.start_workflow(
            ResultsPollerWorkflow.run,
            PollerInput(agent=agent),
            id=names.results_poller(agent),
            task_queue=queues.SHARED,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )


if __name__ == "__main__":
    from clara_dicom_adapter.cli.parts.worker_part import main

    main()
