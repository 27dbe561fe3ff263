"""Jobs over real gRPC: our client, and raw calls where the client does not go."""

import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from support.platform import COPY, RunningPlatform, await_true

from clara_dicom_adapter.clara.model import JobPriority, JobState, JobStatus, OperatorStatus
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs
from clara_dicom_adapter.errors import PlatformRefused, PlatformUnreachable

JOB_UNKNOWN, JOB_MALFORMED = -0x2001, -0x2000
UNKNOWN_ID = "0" * 32


def new_job(platform: RunningPlatform, name: str = "job", **metadata: str) -> tuple[str, str]:
    pipeline = platform.client.resolve_pipeline("copy")
    return platform.client.create_job(pipeline, name, JobPriority.HIGHER, metadata)


def test_a_created_job_is_pending_with_an_empty_payload(platform: RunningPlatform) -> None:
    job_id, payload_id = new_job(platform, Source="AET (name)")
    job = platform.client.job_status(job_id)
    assert (job.state, job.status, job.priority) == (JobState.PENDING, JobStatus.HEALTHY, JobPriority.HIGHER)
    assert (job.payload_id, job.name, dict(job.metadata)) == (payload_id, "job", {"Source": "AET (name)"})
    assert job.created is not None
    assert abs(job.created.timestamp() - (platform.folder / "platform" / "platform.db").stat().st_mtime) < 60
    assert (job.started, job.stopped, job.was_started) == (None, None, False)
    assert [(operator.name, operator.status) for operator in job.operators] == [("copy", OperatorStatus.PENDING)]
    assert platform.client.payload_files(payload_id) == []


def test_jobs_are_found_by_metadata_and_state(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform, ClaraSubmission="abc")
    other, _ = new_job(platform, ClaraSubmission="other")
    for states in ((), (JobState.PENDING,)):
        found = platform.client.find_job("clarasubmission", "abc", states)
        assert found is not None
        assert found.job_id == job_id
    assert platform.client.find_job("ClaraSubmission", "abc", [JobState.RUNNING]) is None
    platform.client.cancel(other)
    assert [job.job_id for job in platform.client.find_jobs()] == [job_id], "without a filter: current jobs"
    assert {job.job_id for job in platform.client.find_jobs([JobState.STOPPED, JobState.PENDING])} == {job_id, other}
    assert platform.client.find_jobs(list(JobState), pipeline_id=UNKNOWN_ID) == []


def test_list_filters_by_status_and_times(platform: RunningPlatform) -> None:
    new_job(platform)
    cancelled, _ = new_job(platform)
    platform.client.cancel(cancelled)
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        jobs = stubs.JobsStub(channel)

        def found(**conditions: object) -> list[str]:
            job_filter = pb.JobsListRequest.JobFilter(**conditions)  # type: ignore[arg-type]
            return [one.job_details.job_id.value for one in jobs.List(pb.JobsListRequest(filter=job_filter))]

        status = jobs.Status(pb.JobsStatusRequest(job_id=pb.Identifier(value=cancelled)))
        before, after = status.created.value - 10, status.stopped.value + 10
        assert found(has_status=[pb.JOB_STATUS_CANCELED]) == [cancelled]
        assert found(completed_before=pb.Timestamp(value=after)) == [cancelled]
        assert found(completed_before=pb.Timestamp(value=before)) == []
        assert len(found(created_after=pb.Timestamp(value=before))) == 2
        assert found(created_after=pb.Timestamp(value=after)) == []


def test_metadata_is_added_idempotently_and_never_overwritten(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform, Source="S")
    client = platform.client
    client.add_metadata(job_id, {"Instances": "2", "00080060": "CT"})
    client.add_metadata(job_id, {"Instances": "2", "00080060": "CT"})
    client.add_metadata(job_id, {"instances": "2", "New": "1"})
    with pytest.raises(PlatformRefused, match="exists"):
        client.add_metadata(job_id, {"INSTANCES": "3", "Other": "x"})
    expected = {"Source": "S", "Instances": "2", "00080060": "CT", "New": "1"}
    assert dict(client.job_status(job_id).metadata) == expected
    client.remove_metadata(job_id, ["new", "never there"])
    client.remove_metadata(job_id, ["NEW"])
    del expected["New"]
    assert dict(client.job_status(job_id).metadata) == expected
    with pytest.raises(PlatformRefused, match="256"):
        client.add_metadata(job_id, {"k": "v" * 257})


def test_starting_twice_is_starting_once(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform)
    platform.client.start_job(job_id)
    platform.client.start_job(job_id)
    job = platform.client.job_status(job_id)
    assert job.state is JobState.RUNNING
    assert job.was_started
    await_true(lambda: platform.starter.started == [job_id])


def test_a_cancelled_job_cannot_be_started(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform)
    assert platform.client.cancel(job_id, "changed our mind") == (JobState.STOPPED, JobStatus.CANCELED)
    with pytest.raises(PlatformRefused, match="STOPPED"):
        platform.client.start_job(job_id)
    assert platform.client.job_status(job_id).messages == ("changed our mind",)
    assert platform.starter.started == []


def test_a_running_job_is_cancelled_through_the_starter(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform)
    platform.client.start_job(job_id)
    assert platform.client.cancel(job_id, "why") == (JobState.RUNNING, JobStatus.HEALTHY)
    await_true(lambda: platform.starter.cancelled[:1] == [job_id])


def test_a_start_while_temporal_is_away_is_made_up_for(platform: RunningPlatform) -> None:
    platform.starter.away = True
    job_id, _ = new_job(platform)
    platform.client.start_job(job_id)
    assert platform.starter.asked.wait(10)
    assert platform.starter.started == []
    platform.starter.away = False
    await_true(lambda: platform.starter.started == [job_id])


def test_variables_must_be_parameters_of_the_pipeline(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform)
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        jobs = stubs.JobsStub(channel)

        def start(name: str) -> pb.JobsStartResponse:
            variables = [pb.JobsStartRequest.NamedValue(name=name, value="x")]
            return jobs.Start(pb.JobsStartRequest(job_id=pb.Identifier(value=job_id), Variables=variables))

        assert start("unknown").header.code < 0
        answer = start("greeting")
    assert (answer.header.code, answer.state, answer.priority) == (0, pb.JOB_STATE_RUNNING, pb.JOB_PRIORITY_HIGHER)


def test_documented_codes_are_used(platform: RunningPlatform) -> None:
    client = platform.client
    for call, code in (
        (lambda: client.job_status(UNKNOWN_ID), JOB_UNKNOWN),
        (lambda: client.job_status("nonsense"), JOB_MALFORMED),
        (lambda: client.start_job(UNKNOWN_ID), JOB_UNKNOWN),
        (lambda: client.create_job(UNKNOWN_ID, "n", JobPriority.NORMAL, {}), -0x1001),
        (lambda: client.create_job("nonsense", "n", JobPriority.NORMAL, {}), -0x1000),
        (lambda: client.create_job(client.resolve_pipeline("copy"), "", JobPriority.NORMAL, {}), -0x2100),
        (lambda: client.create_job(client.resolve_pipeline("copy"), "x" * 64, JobPriority.NORMAL, {}), -0x2100),
        (lambda: list(client.read_logs(UNKNOWN_ID)), JOB_UNKNOWN),
    ):
        with pytest.raises(PlatformRefused) as refused:
            call()
        assert refused.value.code == code


def test_dashed_ids_are_understood(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform)
    dashed = f"{job_id[:8]}-{job_id[8:12]}-{job_id[12:16]}-{job_id[16:20]}-{job_id[20:]}".upper()
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        status = stubs.JobsStub(channel).Status(pb.JobsStatusRequest(job_id=pb.Identifier(value=dashed)))
    assert status.job_id.value == job_id


def test_a_refused_create_leaves_nothing(platform: RunningPlatform) -> None:
    pipeline = platform.client.resolve_pipeline("copy")
    payloads = platform.folder / "platform" / "payloads"
    with pytest.raises(PlatformRefused):
        platform.client.create_job(pipeline, "n", JobPriority.NORMAL, {"k": "v" * 300})
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        request = pb.JobsCreateRequest(
            pipeline_id=pb.Identifier(value=pipeline), name="n", input_payloads=[pb.Identifier(value=UNKNOWN_ID)]
        )
        assert stubs.JobsStub(channel).Create(request).header.code < 0
    assert platform.client.find_jobs(list(JobState)) == []
    assert list(payloads.iterdir()) == []


def test_a_job_keeps_the_definition_it_was_created_with(platform: RunningPlatform) -> None:
    job_id, _ = new_job(platform)
    (platform.pipelines / "copy.yaml").write_text(COPY.replace("name: copy\n    command", "name: other\n    command"))
    assert [operator.name for operator in platform.client.job_status(job_id).operators] == ["copy"]
    plan = platform.service.runner.plan(job_id)
    assert plan.over, "not started yet"
    platform.client.start_job(job_id)
    assert [name for name, _ in platform.service.runner.plan(job_id).operators] == ["copy"]


def test_clara_itself(platform: RunningPlatform) -> None:
    ours = version("clara-dicom-adapter")
    answered = platform.client.version()
    assert answered.endswith("-embedded")
    assert ours.startswith(answered.removesuffix("-embedded"))
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        clara = stubs.ClaraStub(channel)
        assert "whoever started it" in clara.Stop(pb.ClaraStopRequest()).header.messages[0]
        assert list(clara.Utilization(pb.ClaraUtilizationRequest())) == []


def test_no_grpc_error_leaks(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with PlatformClient("127.0.0.1:1", call_timeout=2) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.create_job(UNKNOWN_ID, "n", JobPriority.NORMAL, {}),
            client.find_jobs,
            lambda: client.find_job("k", "v"),
            lambda: client.job_status(UNKNOWN_ID),
            lambda: client.add_metadata(UNKNOWN_ID, {"k": "v"}),
            lambda: client.remove_metadata(UNKNOWN_ID, ["k"]),
            lambda: client.start_job(UNKNOWN_ID),
            lambda: client.cancel(UNKNOWN_ID),
            lambda: list(client.read_logs(UNKNOWN_ID)),
            lambda: client.upload(UNKNOWN_ID, "n", file),
            lambda: client.download(UNKNOWN_ID, "n", tmp_path / "target"),
            lambda: client.payload_files(UNKNOWN_ID),
            client.list_pipelines,
            lambda: client.resolve_pipeline("name"),
            client.version,
        ]
        for call in calls:
            with pytest.raises(PlatformUnreachable):
                call()


class Broken(stubs.JobsServicer):
    """Answers with gRPC statuses, or not at all."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def Status(self, request: pb.JobsStatusRequest, context: grpc.ServicerContext) -> pb.JobsStatusResponse:  # noqa: N802
        if request.job_id.value == "crash":
            raise ValueError("bug")
        if request.job_id.value == "hang":
            self.release.wait(20)
        context.abort(grpc.StatusCode[request.job_id.value], "words")
        raise AssertionError

    def List(self, request: pb.JobsListRequest, context: grpc.ServicerContext):  # type: ignore[no-untyped-def]  # noqa: N802
        yield pb.JobsListResponse()
        self.release.wait(20)


@pytest.fixture
def broken() -> object:
    from concurrent.futures import ThreadPoolExecutor

    servicer = Broken()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage] - the rest is not called
    server = grpc.server(ThreadPoolExecutor(4))
    stubs.add_JobsServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with PlatformClient(f"127.0.0.1:{port}", call_timeout=0.5) as client:
        yield client
    servicer.release.set()
    server.stop(0).wait()


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "INVALID_ARGUMENT", "NOT_FOUND", "crash"])
def test_a_grpc_status_that_is_an_answer_is_a_refusal(broken: PlatformClient, status: str) -> None:
    with pytest.raises(PlatformRefused, match="gRPC status") as refused:
        broken.job_status(status)
    assert refused.value.code < 0


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "hang"])
def test_a_grpc_status_that_is_no_answer_is_unreachable(broken: PlatformClient, status: str) -> None:
    with pytest.raises(PlatformUnreachable):
        broken.job_status(status)


def test_a_call_that_the_server_does_not_know_is_a_refusal(broken: PlatformClient) -> None:
    with pytest.raises(PlatformRefused, match="UNIMPLEMENTED"):
        broken.version()


def test_a_stream_that_stands_still_is_given_up(broken: PlatformClient) -> None:
    with pytest.raises(PlatformUnreachable):
        broken.find_jobs()
