"""What the activities of ``PlatformJobWorkflow`` do: plan a job, run an operator, end the job.

Every method may be repeated: an operator that has completed is not run again, and a job that has ended stays ended.
"""

import fnmatch
import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from clara_dicom_adapter.clara.embedded import operators
from clara_dicom_adapter.clara.embedded.definition import PAYLOAD, Operator, Registration
from clara_dicom_adapter.clara.embedded.jobs import Job, JobStore
from clara_dicom_adapter.clara.embedded.operators import Ended, OperatorFolders
from clara_dicom_adapter.clara.embedded.payloads import PayloadStore, sync_folder, sync_tree, walk
from clara_dicom_adapter.clara.embedded.refusal import Refusal
from clara_dicom_adapter.clara.embedded.tasks import NewTask, TaskStore
from clara_dicom_adapter.clara.model import JobState, JobStatus, OperatorStatus

log = structlog.get_logger("clara_dicom_adapter.clara")


@dataclass(frozen=True)
class Plan:
    """What is to be done for a started job."""

    pipeline: str
    operators: tuple[tuple[str, float], ...]
    """Names in order, with their time limits in seconds."""
    over: bool
    """The job has ended already, or is not known here any more."""
    cancel: bool
    """Someone has asked for its end."""


@dataclass(frozen=True)
class OperatorOutcome:
    completed: bool
    stopped: bool
    """It was killed because ``stopped`` said so; nothing was recorded."""
    message: str
    """Without a word of the operator's own, which may say who the patient is; that part stays in the database."""


class JobRunner:
    """Does the work of started jobs.

    Args:
        folder: The platform's folder; work and logs lie below it.
        surroundings: The environment of this process.
    """

    def __init__(
        self, jobs: JobStore, payloads: PayloadStore, tasks: TaskStore, folder: Path, surroundings: Mapping[str, str]
    ) -> None:
        self._jobs = jobs
        self._payloads = payloads
        self._tasks = tasks
        self._work = folder / "work"
        self._logs = folder / "logs"
        self._surroundings = surroundings
        for made in (self._work, self._logs):
            made.mkdir(parents=True, exist_ok=True)

    def plan(self, job_id: str) -> Plan:
        """What to run."""
        try:
            job = self._jobs.get(job_id)
        except Refusal:
            return Plan("", (), over=True, cancel=False)
        return Plan(
            pipeline=job.definition.name,
            operators=tuple((operator.name, operator.time_limit) for operator in job.definition.operators),
            over=job.state is not JobState.RUNNING,
            cancel=job.cancel_reason is not None,
        )

    def run_operator(self, job_id: str, name: str, stopped: Callable[[], bool]) -> OperatorOutcome:
        """Run one operator to its end, and put what it made into the payload."""
        job = self._jobs.get(job_id)
        record = next(record for record in self._jobs.operators(job_id) if record.name == name)
        if record.status is OperatorStatus.COMPLETED:
            return OperatorOutcome(completed=True, stopped=False, message="")
        operator = job.definition.operator(name)
        attempt = uuid.uuid4().hex
        folders = self._folders(job, operator, attempt)
        for old in folders.attempt.parent.glob(f"{name}.*"):
            operators.clear(old)
        self._jobs.operator_started(job_id, name, attempt)
        logs = self.log_file(job_id, name)
        logs.parent.mkdir(parents=True, exist_ok=True)
        command, environment = operators.command_and_environment(
            operator,
            folders,
            job_id=job_id,
            pipeline_id=job.pipeline_id,
            parameters={**job.definition.parameters, **job.variables},
            surroundings=self._surroundings,
        )
        log.info("operator_started", job_id=job_id, operator=name)
        try:
            end = operators.run(
                command, environment, folders, log=logs, time_limit=operator.time_limit, stopped=stopped
            )
            if end.how is Ended.STOPPED:
                return OperatorOutcome(completed=False, stopped=True, message=f"operator {name} was stopped")
            if end.how is Ended.BY_ITSELF and end.exit_code == 0:
                self._publish(job, name, attempt, folders.output)
                log.info("operator_completed", job_id=job_id, operator=name)
                return OperatorOutcome(completed=True, stopped=False, message="")
            message = f"operator {name} ended with exit code {end.exit_code}"
            if end.how is Ended.TIME_LIMIT:
                message = f"operator {name} exceeded its time limit of {operator.time_limit:g} s"
            # its own words on lines of their own: clients that must not keep them take the first line
            whole = f"{message}:\n{end.last_lines}" if end.last_lines else message
            self._jobs.operator_ended(job_id, name, attempt, whole, publish=None)
            log.warning("operator_failed", job_id=job_id, operator=name, reason=message)
            return OperatorOutcome(completed=False, stopped=False, message=message)
        finally:
            operators.clear(folders.attempt)

    def finish(self, job_id: str, status: JobStatus, message: str) -> int:
        """Record how a job ended, and register its results when it ended well.

        Returns:
            How many tasks were registered.
        """
        try:
            job = self._jobs.get(job_id)
        except Refusal:
            return 0
        if job.state is JobState.PENDING:
            return 0
        told = [record.message for record in self._jobs.operators(job_id) if record.status is OperatorStatus.FAULTED]
        messages = told or ([message] if message else [])
        if status is JobStatus.CANCELED and job.cancel_reason:
            messages = [job.cancel_reason]
        tasks: list[NewTask] = []
        if status is JobStatus.HEALTHY:
            for registration in job.definition.register_results:
                found = self._results(job, registration)
                if not found:
                    messages.append(
                        f"operator {registration.operator} made nothing to register for {registration.agent}"
                    )
                tasks += found

        def register(connection: sqlite3.Connection) -> int:
            return len(self._tasks.register(connection, tasks))

        registered = self._jobs.finish(job_id, status, messages, register)
        operators.clear(self._work / job_id)
        log.info("platform_job_ended", job_id=job_id, status=status.name, count=registered)
        return registered

    # ---- logs ----

    def log_file(self, job_id: str, operator: str) -> Path:
        """Where an operator's output is kept."""
        return self._logs / job_id / f"{operator}.log"

    def remove_logs(self, job_id: str) -> None:
        shutil.rmtree(self._logs / job_id, ignore_errors=True)

    # ---- folders ----

    def _folders(self, job: Job, operator: Operator, attempt: str) -> OperatorFolders:
        payload = self._payloads.folder(job.payload_id)
        source = payload / "input" if operator.input == PAYLOAD else payload / "operators" / operator.input
        return OperatorFolders(
            input=source,
            payload=payload / "input",
            pipeline=job.definition_folder,
            attempt=self._work / job.job_id / f"{operator.name}.{attempt}",
        )

    def _publish(self, job: Job, name: str, attempt: str, output: Path) -> None:
        """Make an output folder part of the payload, on the disk before the operator counts as completed."""
        if operators.remove_all_but_files(output):
            log.warning("operator_output_links_removed", job_id=job.job_id, operator=name)
        sync_tree(output)
        target = self._payloads.folder(job.payload_id) / "operators" / name
        target.parent.mkdir(exist_ok=True)
        sync_folder(target.parent.parent)

        def publish() -> None:
            if target.exists():  # of an attempt that was killed after this and before it was recorded
                shutil.rmtree(target)
            output.rename(target)
            sync_folder(target.parent)

        self._jobs.operator_ended(job.job_id, name, attempt, "", publish)

    def _results(self, job: Job, registration: Registration) -> list[NewTask]:
        """One task per destination, so that one being away does not repeat the export to another."""
        root = self._payloads.folder(job.payload_id) / "operators" / registration.operator
        uris = tuple(
            f"operators/{registration.operator}/{file.name}"
            for file in walk(root)
            if fnmatch.fnmatchcase(file.path.name, registration.files)
        )
        if not uris:
            return []
        return [
            NewTask(job.job_id, job.pipeline_id, job.payload_id, registration.agent, parameters, uris)
            for parameters in [json.dumps(name) for name in registration.destinations] or [""]
        ]
