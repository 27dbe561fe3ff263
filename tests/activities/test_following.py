"""Following started jobs: what is asked of the platform, what is recorded of its answers, and when it ends."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from temporalio.testing import ActivityEnvironment

from clara_dicom_adapter.activities.following import FollowingActivities
from clara_dicom_adapter.activities.metrics import WorkerMetrics
from clara_dicom_adapter.activities.submission import JOB_UNKNOWN
from clara_dicom_adapter.clara.model import JobState, JobStatus, OperatorDetails, OperatorStatus, PlatformJob
from clara_dicom_adapter.errors import PlatformRefused, PlatformUnreachable
from clara_dicom_adapter.records.jobs import JobEnd, RunningJob
from clara_dicom_adapter.workflows.models import FollowInput, FollowResult

STOPPED_AT = datetime(2024, 5, 1, 8, 0, tzinfo=UTC)


def job(job_id: str, state: JobState = JobState.RUNNING, status: JobStatus = JobStatus.HEALTHY) -> PlatformJob:
    return PlatformJob(job_id, f"payload-{job_id}", "p", job_id, state, status)


def stopped(job_id: str, status: JobStatus, *messages: str) -> PlatformJob:
    return replace(job(job_id, JobState.STOPPED, status), stopped=STOPPED_AT, messages=messages)


@dataclass
class Platform:
    """Jobs in memory, and what is asked about them; what comes first in ``fails`` is raised by the next list."""

    jobs: dict[str, PlatformJob] = field(default_factory=dict[str, PlatformJob])
    later: list[list[PlatformJob]] = field(default_factory=list[list[PlatformJob]])
    """What changes after each list."""
    fails: list[Exception] = field(default_factory=list[Exception])
    refuses: dict[str, int] = field(default_factory=dict[str, int])
    lists: int = 0
    asked: list[str] = field(default_factory=list[str])

    def put(self, *jobs: PlatformJob) -> None:
        self.jobs.update({each.job_id: each for each in jobs})

    def find_jobs(self, states: Collection[JobState] = ()) -> list[PlatformJob]:
        self.lists += 1
        if self.fails:
            raise self.fails.pop(0)
        found = [each for each in self.jobs.values() if each.state in states]
        if self.later:
            self.put(*self.later.pop(0))
        return found

    def job_status(self, job_id: str) -> PlatformJob:
        self.asked.append(job_id)
        if job_id in self.refuses:
            raise PlatformRefused("Jobs.Status", self.refuses.pop(job_id), ["no"])
        if job_id not in self.jobs:
            raise PlatformRefused("Jobs.Status", JOB_UNKNOWN, ["job is unknown"])
        return self.jobs[job_id]


class Records:
    """Started jobs in memory."""

    def __init__(self, *job_ids: str) -> None:
        self.left = [RunningJob("submission-1", job_id, job_id) for job_id in job_ids]
        self.ends: dict[str, tuple[JobEnd, str, datetime | None]] = {}

    def running(self, limit: int | None = None) -> list[RunningJob]:
        return self.left[:limit]

    def ended(self, job: RunningJob, end: JobEnd, message: str, stopped: datetime | None) -> bool:
        self.ends[job.job_id] = end, message, stopped
        self.left.remove(job)
        return True


def following(platform: Platform, records: Records, metrics: WorkerMetrics | None = None) -> FollowingActivities:
    return FollowingActivities(platform, records, 0.01, (metrics or WorkerMetrics()).job_ended)


async def follow(platform: Platform, records: Records, metrics: WorkerMetrics | None = None) -> FollowResult:
    activities = following(platform, records, metrics)
    return await ActivityEnvironment().run(activities.follow, FollowInput())


async def test_without_started_jobs_nothing_is_asked() -> None:
    platform = Platform()
    assert await follow(platform, Records()) == FollowResult(ended=0, running=False)
    assert platform.lists == 0


async def test_each_end_is_recorded_with_its_reason_and_counted() -> None:
    operators = (OperatorDetails("a", OperatorStatus.COMPLETED), OperatorDetails("b", OperatorStatus.FAULTED))
    platform, metrics = Platform(), WorkerMetrics()
    platform.put(
        stopped("good", JobStatus.HEALTHY, "all is well"),
        stopped("bad", JobStatus.FAULTED, "operator b: exit status 3:\nPatientName is DOE", "see its log"),
        replace(stopped("mute", JobStatus.FAULTED), operators=operators),
        stopped("canceled", JobStatus.CANCELED, "by hand"),
        stopped("odd", JobStatus.UNKNOWN),
    )
    records = Records("good", "bad", "mute", "canceled", "odd", "gone")
    assert await follow(platform, records, metrics) == FollowResult(ended=6, running=False)
    assert records.ends == {
        "good": (JobEnd.COMPLETED, "", STOPPED_AT),
        "bad": (JobEnd.FAULTED, "operator b: exit status 3; see its log", STOPPED_AT),
        "mute": (JobEnd.FAULTED, "failed: b", STOPPED_AT),
        "canceled": (JobEnd.CANCELED, "by hand", STOPPED_AT),
        "odd": (JobEnd.UNKNOWN, "", STOPPED_AT),
        "gone": (JobEnd.UNKNOWN, "the platform does not know this job any more", None),
    }
    assert platform.lists == 1, "one list for all of them"
    name = "clara_dicom_jobs_ended_total"
    counts = {end: metrics.registry.get_sample_value(name, {"status": end.value}) for end in JobEnd}
    assert counts == {
        **dict.fromkeys(JobEnd, 0.0),
        JobEnd.COMPLETED: 1.0,
        JobEnd.FAULTED: 2.0,
        JobEnd.CANCELED: 1.0,
        JobEnd.UNKNOWN: 2.0,
    }


async def test_jobs_that_run_are_not_asked_for_one_by_one() -> None:
    platform = Platform(later=[[], [], [stopped("a", JobStatus.HEALTHY), stopped("b", JobStatus.FAULTED, "no")]])
    platform.put(job("a"), job("b", JobState.PENDING))
    records = Records("a", "b")
    assert await follow(platform, records) == FollowResult(ended=2, running=False)
    assert (platform.lists, platform.asked) == (4, ["a", "b"])


async def test_an_id_with_dashes_is_the_same_job() -> None:
    dashed, plain = "0123456789abcdef0123456789ABCDEF", "01234567-89ab-cdef-0123-456789abcdef"
    platform = Platform(later=[[job(plain, JobState.STOPPED)]])
    platform.put(job(plain))
    platform.jobs[dashed] = stopped(dashed, JobStatus.HEALTHY)
    await follow(platform, Records(dashed))
    assert (platform.lists, platform.asked) == (2, [dashed])


async def test_a_job_missing_in_the_list_has_not_ended_until_its_status_says_so() -> None:
    platform = Platform(refuses={"a": -1})
    platform.put(stopped("a", JobStatus.HEALTHY), stopped("b", JobStatus.HEALTHY))
    platform.put(job("c", JobState.UNKNOWN))
    platform.later = [[], [stopped("c", JobStatus.HEALTHY)]]
    records = Records("a", "b", "c")
    assert await follow(platform, records) == FollowResult(ended=3, running=False)
    assert platform.asked[:3] == ["a", "b", "c"], "a refusal for one job does not keep the others waiting"
    assert {end for end, _, _ in records.ends.values()} == {JobEnd.COMPLETED}


async def test_a_platform_that_is_away_is_waited_for() -> None:
    platform = Platform(fails=[PlatformUnreachable("p", "down"), PlatformRefused("Jobs.List", -0x2003, ["no list"])])
    platform.put(stopped("a", JobStatus.HEALTHY))
    records = Records("a")
    assert await follow(platform, records) == FollowResult(ended=1, running=False)
    assert platform.lists == 3


async def test_a_worker_that_stops_leaves_the_rest_to_the_next() -> None:
    platform, listed = Platform(), asyncio.Event()
    platform.put(job("a"))
    loop = asyncio.get_running_loop()

    class Telling(Platform):
        def find_jobs(self, states: Collection[JobState] = ()) -> list[PlatformJob]:
            loop.call_soon_threadsafe(listed.set)
            return super().find_jobs(states)

    telling = Telling(jobs=platform.jobs)
    environment = ActivityEnvironment()
    running = asyncio.create_task(environment.run(following(telling, Records("a")).follow, FollowInput()))
    await listed.wait()
    environment.worker_shutdown()
    async with asyncio.timeout(60):
        assert await running == FollowResult(ended=0, running=True)
