"""What went in, what ran and what came out, and whether it matches: nothing lost, nothing done twice."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Engine

from clara_dicom_adapter.clara.metadata import SOURCE
from clara_dicom_adapter.clara.model import JobState, PlatformJob
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.cli.demo.modality import Sent
from clara_dicom_adapter.cli.demo.pacs import Pacs
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.resent import came_too_late
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.temporal.attributes import State

Thing = TypeVar("Thing", "Job", "Export")
EVERY_STATE = (JobState.PENDING, JobState.RUNNING, JobState.STOPPED)
SLACK: Final = timedelta(seconds=3)
"""From an instance to its batch, and from a group's closing to its submission, on a machine that is busy."""


@dataclass(frozen=True)
class Job:
    """A job of the platform.

    Attributes:
        inputs: SOP Instance UIDs in its payload, as often as they stand there.
        seconds: From start to end.
    """

    job_id: str
    name: str
    ae_title: str
    pipeline: str
    state: str
    status: str
    inputs: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True)
class Export:
    """A results task.

    Attributes:
        results: SOP Instance UIDs of the objects that the job made.
    """

    task_id: str
    job_id: str
    state: str
    results: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One count that must match.

    Attributes:
        difference: What differs, when it does not.
    """

    what: str
    expected: int
    found: int
    difference: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.expected == self.found and not self.difference


@dataclass
class Accounts:
    """Everything at one moment."""

    jobs: list[Job] = field(default_factory=list[Job])
    exports: list[Export] = field(default_factory=list[Export])
    at_pacs: set[str] = field(default_factory=set[str])
    in_spool: int = 0
    checks: list[Check] = field(default_factory=list[Check])

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)


class Auditor:
    """Takes the accounts; what cannot change any more is asked for once."""

    def __init__(
        self,
        *,
        platform: PlatformClient,
        engine: Engine,
        pacs: Pacs,
        spool: Path,
        scratch: Path,
        pipelines: Mapping[str, Sequence[str]],
    ) -> None:
        """Args:
        pipelines: AE title to the names of its pipelines.
        scratch: Folder for objects that are looked into.
        """
        self._platform = platform
        self._engine = engine
        self._listing = Listing(engine)
        self._pacs = pacs
        self._spool = spool
        self._scratch = scratch
        self._pipelines = pipelines
        self._names = {each.pipeline_id: each.name for each in platform.list_pipelines()}
        self._results: dict[tuple[str, str], str] = {}
        self._inputs: dict[str, tuple[str, ...]] = {}

    def take(self, sent: Sequence[Sent]) -> Accounts:
        """Look at the platform, the records, the PACS and the spool."""
        accounts = Accounts(
            jobs=[self._job(job) for job in self._platform.find_jobs(EVERY_STATE)],
            exports=self._exports(),
            at_pacs=self._pacs.instances(),
            in_spool=self._in_spool(),
        )
        accounts.checks = [
            *_acknowledged(sent),
            *(
                in_jobs(ae_title, pipeline, sent, accounts.jobs, self._too_late(ae_title, sent))
                for ae_title, pipelines in self._pipelines.items()
                for pipeline in pipelines
            ),
            _count("jobs that ended well", accounts.jobs, lambda job: job.status == "HEALTHY"),
            self._exported(accounts),
            _count("exports reported as done", accounts.exports, lambda each: each.state == State.EXPORTED),
            delivered(accounts),
            Check("instances left in the spool", 0, accounts.in_spool),
        ]
        return accounts

    def _job(self, job: PlatformJob) -> Job:
        inputs = self._inputs.get(job.job_id)
        if inputs is None:
            files = self._platform.payload_files(job.payload_id)
            inputs = tuple(Path(file.name).stem for file in files if file.name.startswith("input/"))
            if job.state is JobState.STOPPED:
                self._inputs[job.job_id] = inputs
        ended = job.stopped - job.started if job.stopped and job.started else None
        return Job(
            job_id=job.job_id,
            name=job.name,
            ae_title=job.metadata.get(SOURCE, "").split(" ")[0],
            pipeline=self._names.get(job.pipeline_id, job.pipeline_id),
            state=job.state.name,
            status=job.status.name,
            inputs=inputs,
            seconds=ended.total_seconds() if ended is not None else None,
        )

    def _exports(self) -> list[Export]:
        rows = self._listing.page(Subject.EXPORT, Filter({}, limit=10_000)).items
        return [
            Export(
                task_id=row["task_id"],
                job_id=row["job_id"],
                state=row["state"],
                results=tuple(self._result(row["payload_id"], uri) for uri in row["uris"]),
            )
            for row in rows
        ]

    def _result(self, payload_id: str, name: str) -> str:
        """SOP Instance UID of an object that a job made."""
        key = (payload_id, name)
        if key not in self._results:
            target = self._scratch / "object.dcm"
            self._platform.download(payload_id, name, target)
            self._results[key] = read_meta(target).sop_instance_uid
        return self._results[key]

    def _too_late(self, ae_title: str, sent: Sequence[Sent]) -> set[str]:
        """Instances that were sent again when what had come of them before was submitted already."""
        doubtful = set[str]().union(*(each.doubtful for each in sent if each.stack.ae_title == ae_title))
        return came_too_late(self._engine, ae_title, doubtful, SLACK)

    def _in_spool(self) -> int:
        with Spool.open(self._spool, SpoolRole.TOOL) as spool:
            return spool.usage().instances

    def _exported(self, accounts: Accounts) -> Check:
        """Every job that made something has its task: each pipeline of the demo registers its results."""
        with_task = {each.job_id for each in accounts.exports}
        missing = [job.job_id for job in accounts.jobs if job.job_id not in with_task]
        return Check(
            "jobs whose results were offered for export",
            len(accounts.jobs),
            len(accounts.jobs) - len(missing),
            tuple(f"no results task for job {job_id}" for job_id in missing),
        )


def _acknowledged(sent: Sequence[Sent]) -> list[Check]:
    return [
        Check(
            f"{each.stack.what} to {each.stack.ae_title}: instances acknowledged",
            len(each.stack.files),
            each.instances,
            tuple(f"{uid}: {reason}" for uid, reason in each.refused.items()),
        )
        for each in sent
    ]


def in_jobs(
    ae_title: str, pipeline: str, sent: Sequence[Sent], jobs: Sequence[Job], too_late: Collection[str] = ()
) -> Check:
    """Every acknowledged instance is in the payload of exactly one job of the pipeline.

    The same instance sent in two associations counts for each of the groups that these make.

    Args:
        too_late: Of the instances whose answer was lost those that came again when their group was closed; they
            are in two groups, and nothing else is.
    """
    mine = [each for each in sent if each.stack.ae_title == ae_title]
    expected = set().union(*(each.acknowledged for each in mine))
    allowed = Counter(uid for each in mine for uid in each.acknowledged)
    found = Counter(uid for job in jobs if (job.ae_title, job.pipeline) == (ae_title, pipeline) for uid in job.inputs)
    lost = sorted(expected - set(found))
    twice = sorted(uid for uid, count in found.items() if count > allowed[uid] + (uid in too_late))
    return Check(
        f"{ae_title}, pipeline {pipeline}: acknowledged instances in jobs",
        len(expected),
        len(expected & set(found)),
        tuple([f"not in any job: {uid}" for uid in lost] + [f"in {found[uid]} jobs: {uid}" for uid in twice]),
    )


def _count(what: str, things: Sequence[Thing], is_good: Callable[[Thing], bool]) -> Check:
    bad = [thing for thing in things if not is_good(thing)]
    return Check(what, len(things), len(things) - len(bad), tuple(_told(thing) for thing in bad))


def _told(thing: Job | Export) -> str:
    if isinstance(thing, Job):
        return f"job {thing.job_id} ({thing.pipeline} for {thing.ae_title}) is {thing.state} {thing.status}"
    return f"export {thing.task_id} is {thing.state}"


def delivered(accounts: Accounts) -> Check:
    made = {uid for export in accounts.exports for uid in export.results}
    missing, foreign = sorted(made - accounts.at_pacs), sorted(accounts.at_pacs - made)
    return Check(
        "result objects at the PACS",
        len(made),
        len(made & accounts.at_pacs),
        tuple([f"did not arrive: {uid}" for uid in missing] + [f"nobody made: {uid}" for uid in foreign]),
    )
