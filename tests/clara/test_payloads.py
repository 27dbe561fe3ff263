"""Payloads over real gRPC."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from support.platform import COPY, RunningPlatform, await_true

from clara_dicom_adapter.clara.embedded.service import PlatformService
from clara_dicom_adapter.clara.model import JobPriority, JobState
from clara_dicom_adapter.clara.platform import CHUNK, PlatformClient
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs
from clara_dicom_adapter.errors import PlatformRefused, PlatformUnreachable, SpoolInUse, SpoolUnusable


@pytest.fixture
def payload(platform: RunningPlatform) -> tuple[str, str]:
    """Job and payload ids of a pending job."""
    return platform.client.create_job(platform.client.resolve_pipeline("copy"), "job", JobPriority.NORMAL, {})


def file_of(folder: Path, content: bytes, name: str = "source") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "status",
    [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED],
)
def test_what_a_gateway_answers_is_no_word_of_a_file(tmp_path: Path, status: grpc.StatusCode) -> None:
    def refuse(_request: bytes, context: grpc.ServicerContext) -> NoReturn:
        context.abort(status, "not here")

    handler: Any = grpc.unary_stream_rpc_method_handler(refuse)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("nvidia.clara.platform.Payloads", {"Download": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with PlatformClient(f"127.0.0.1:{port}", 10) as client, pytest.raises(PlatformUnreachable, match=status.name):
            client.download("a" * 32, "out/1.dcm", tmp_path / "1.dcm")
    finally:
        server.stop(0).wait(10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_what_is_uploaded_is_downloaded(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    moved: list[int] = []
    sent = platform.client.upload(payload[1], "dcm/1.2/a.dcm", file_of(tmp_path, content), moved.append)
    assert sent == size
    assert moved[-1] == size
    assert moved == sorted(moved)
    for name in ("input/dcm/1.2/a.dcm", "/input/dcm/1.2/a.dcm", "./input/dcm/1.2/A.DCM"):
        target = tmp_path / "target"
        assert platform.client.download(payload[1], name, target) == size
        assert target.read_bytes() == content
    assert [(file.name, file.size) for file in platform.client.payload_files(payload[1])] == [
        ("input/dcm/1.2/a.dcm", size)
    ]
    assert not list(tmp_path.glob("*.part"))


def test_uploading_again_replaces_the_file(platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path) -> None:
    platform.client.upload(payload[1], "a", file_of(tmp_path, b"one"))
    platform.client.upload(payload[1], "/a", file_of(tmp_path, b"second"))
    assert [(file.name, file.size) for file in platform.client.payload_files(payload[1])] == [("input/a", 6)]


@pytest.mark.parametrize("name", ["../a", "a/../../../b", "..", "", "/", "a\x00b", "x" * 300, "/../../etc/passwd"])
def test_nothing_escapes_the_payload(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path, name: str
) -> None:
    before = {path for path in tmp_path.rglob("*") if not path.name.startswith("platform.db")}
    source = file_of(tmp_path, b"x")
    with pytest.raises(PlatformRefused):
        platform.client.upload(payload[1], name, source)
    with pytest.raises(PlatformRefused):
        platform.client.download(payload[1], name, tmp_path / "target")
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        remove = pb.PayloadsRemoveRequest(payload_id=pb.Identifier(value=payload[1]), name=name)
        assert stubs.PayloadsStub(channel).Remove(remove).header.code < 0
    after = {path for path in tmp_path.rglob("*") if not path.name.startswith("platform.db")}
    assert after - before <= {source}


def test_a_download_that_breaks_off_leaves_nothing_behind(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(*_: object) -> Iterator[pb.PayloadsDownloadResponse]:
        yield pb.PayloadsDownloadResponse(data=b"x" * 1000)
        raise PlatformUnreachable("platform", "gone")

    folder = tmp_path / "downloads"
    folder.mkdir()
    monkeypatch.setattr(platform.client, "_stream", breaks_off)
    with pytest.raises(PlatformUnreachable):
        platform.client.download(payload[1], "input/a", folder / "target")
    assert list(folder.iterdir()) == []


def test_a_link_in_a_payload_is_not_followed(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path
) -> None:
    folder = platform.folder / "platform" / "payloads" / payload[1] / "input"
    secret = file_of(tmp_path, b"secret", "secret")
    (folder / "link").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    for name in ("input/link", "input/folder/secret"):
        with pytest.raises(PlatformRefused):
            platform.client.download(payload[1], name, tmp_path / "target")
    assert platform.client.payload_files(payload[1]) == []


def test_a_name_cannot_be_both_file_and_folder(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path
) -> None:
    source = file_of(tmp_path, b"x")
    platform.client.upload(payload[1], "a", source)
    platform.client.upload(payload[1], "b/c", source)
    for name in ("a/b", "b"):
        with pytest.raises(PlatformRefused):
            platform.client.upload(payload[1], name, source)
    assert not list((platform.folder / "platform" / "arriving").iterdir())


def test_case_decides_only_between_names_that_differ_in_nothing_else(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path
) -> None:
    for name in ("one", "Two", "TWO"):
        platform.client.upload(payload[1], name, file_of(tmp_path, name.encode()))
    target = tmp_path / "target"
    platform.client.download(payload[1], "INPUT/ONE", target)
    assert target.read_bytes() == b"one"
    platform.client.download(payload[1], "input/TWO", target)
    assert target.read_bytes() == b"TWO"
    with pytest.raises(PlatformRefused, match="case"):
        platform.client.download(payload[1], "input/two", target)


def test_a_payload_is_read_only_after_the_start(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path
) -> None:
    source = file_of(tmp_path, b"x")
    platform.client.upload(payload[1], "a", source)
    platform.client.start_job(payload[0])
    with pytest.raises(PlatformRefused, match="read-only"):
        platform.client.upload(payload[1], "b", source)
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        payloads = stubs.PayloadsStub(channel)
        identified = pb.Identifier(value=payload[1])
        remove = payloads.Remove(pb.PayloadsRemoveRequest(payload_id=identified, name="input/a"))
        assert "read-only" in remove.header.messages[0]
        assert payloads.Delete(pb.PayloadsDeleteRequest(payload_id=identified)).header.code < 0
    assert len(platform.client.payload_files(payload[1])) == 1


def test_an_upload_that_ends_after_the_start_is_refused(platform: RunningPlatform, payload: tuple[str, str]) -> None:
    def blocks() -> Iterator[pb.PayloadsUploadRequest]:
        details = pb.PayloadFileDetails(name="late")
        yield pb.PayloadsUploadRequest(payload_id=pb.Identifier(value=payload[1]), details=details, data=b"1")
        platform.client.start_job(payload[0])
        yield pb.PayloadsUploadRequest(payload_id=pb.Identifier(value=payload[1]), details=details, data=b"2")

    with grpc.insecure_channel(platform.service.endpoint) as channel:
        answer = stubs.PayloadsStub(channel).Upload(blocks(), timeout=20)
    assert "read-only" in answer.header.messages[0]
    assert platform.client.payload_files(payload[1]) == []


def test_an_upload_that_ends_early_is_refused(platform: RunningPlatform, payload: tuple[str, str]) -> None:
    details = pb.PayloadFileDetails(name="f", size=3)
    cut = pb.PayloadsUploadRequest(payload_id=pb.Identifier(value=payload[1]), details=details, data=b"12")
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        answer = stubs.PayloadsStub(channel).Upload(iter([cut]), timeout=20)
    assert answer.header.messages == ["the upload ended after 2 of 3 bytes"]
    assert platform.client.payload_files(payload[1]) == []


def test_an_upload_that_its_client_gives_up_leaves_nothing(platform: RunningPlatform, payload: tuple[str, str]) -> None:
    arriving = platform.folder / "platform" / "arriving"
    given_up = threading.Event()

    def blocks() -> Iterator[pb.PayloadsUploadRequest]:
        details = pb.PayloadFileDetails(name="f", size=2)  # a stream given up may look like one that has ended
        yield pb.PayloadsUploadRequest(payload_id=pb.Identifier(value=payload[1]), details=details, data=b"1")
        given_up.wait(20)

    with grpc.insecure_channel(platform.service.endpoint) as channel:
        call = stubs.PayloadsStub(channel).Upload.future(blocks())
        await_true(lambda: bool(list(arriving.iterdir())))
        call.cancel()
        await_true(lambda: not list(arriving.iterdir()))
        given_up.set()
    assert platform.client.payload_files(payload[1]) == []


def test_uploads_as_the_python_client_sends_them(platform: RunningPlatform, payload: tuple[str, str]) -> None:
    """64 KiB blocks with the block's length as size, no header at all; and no message for an empty file."""
    content = os.urandom(150_000)

    def blocks() -> Iterator[pb.PayloadsUploadRequest]:
        for start in range(0, len(content), 65536):
            block = content[start : start + 65536]
            details = pb.PayloadFileDetails(size=len(block), name="f")
            yield pb.PayloadsUploadRequest(payload_id=pb.Identifier(value=payload[1]), details=details, data=block)

    with grpc.insecure_channel(platform.service.endpoint) as channel:
        payloads = stubs.PayloadsStub(channel)
        answer = payloads.Upload(blocks())
        assert (answer.header.code, answer.details.name, answer.details.size) == (0, "f", 150_000)
        assert payloads.Upload(iter(())).header.code < 0
        parts = list(
            payloads.Download(pb.PayloadsDownloadRequest(payload_id=pb.Identifier(value=payload[1]), name="./input/f"))
        )
    assert b"".join(part.data for part in parts) == content
    assert parts[0].details.size == 150_000


def test_reusable_payloads_are_copied_into_jobs(platform: RunningPlatform, tmp_path: Path) -> None:
    pipeline = pb.Identifier(value=platform.client.resolve_pipeline("copy"))
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        payloads, jobs = stubs.PayloadsStub(channel), stubs.JobsStub(channel)
        created = payloads.Create(pb.PayloadsCreateRequest(metadata={"Kind": "atlas"}))
        assert created.type == pb.PAYLOAD_TYPE_REUSABLE
        reusable = created.payload_id
        platform.client.upload(reusable.value, "atlas/a", file_of(tmp_path, b"atlas"))
        (details,) = payloads.Details(pb.PayloadsDetailsRequest(payload_id=reusable))
        assert (details.file.name, dict(details.metadata)) == ("atlas/a", {"Kind": "atlas"})
        request = pb.JobsCreateRequest(pipeline_id=pipeline, name="j", input_payloads=[reusable])
        job = jobs.Create(request)
        assert [file.name for file in platform.client.payload_files(job.payload_id.value)] == ["input/atlas/a"]
        request.input_payloads.append(reusable)
        assert "twice" in jobs.Create(request).header.messages[0]

        assert payloads.AddMetadata(
            pb.PayloadsAddMetadataRequest(payload_id=reusable, metadata={"kind": "x"})
        ).header.code < 0  # fmt: skip
        added = payloads.AddMetadata(pb.PayloadsAddMetadataRequest(payload_id=reusable, metadata={"More": "x"}))
        assert (added.header.code, dict(added.metadata)) == (0, {"More": "x"})
        left = payloads.RemoveMetadata(pb.PayloadsRemoveMetadataRequest(payload_id=reusable, keys=["MORE"]))
        assert dict(left.metadata) == {"Kind": "atlas"}
        on_a_job = pb.PayloadsAddMetadataRequest(payload_id=job.payload_id, metadata={"k": "v"})
        assert payloads.AddMetadata(on_a_job).header.code < 0

        assert payloads.Remove(pb.PayloadsRemoveRequest(payload_id=reusable, name="ATLAS/a")).header.code == 0
        assert payloads.Delete(pb.PayloadsDeleteRequest(payload_id=reusable)).header.code == 0
        assert "removed" in payloads.Delete(pb.PayloadsDeleteRequest(payload_id=reusable)).header.messages[0]
        (empty,) = payloads.Details(pb.PayloadsDetailsRequest(payload_id=pb.Identifier(value=job.payload_id.value)))
        assert empty.job_id == job.job_id
    assert not (platform.folder / "platform" / "payloads" / reusable.value).exists()


def test_a_file_that_cannot_be_read_is_not_the_platforms_fault(
    platform: RunningPlatform, payload: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        platform.client.upload(payload[1], "a", tmp_path / "missing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        platform.client.upload(payload[1], "a", tmp_path / "folder")


def test_everything_survives_a_restart(start_platform: Callable[..., RunningPlatform], tmp_path: Path) -> None:
    first = start_platform()
    (first.pipelines / "copy.yaml").write_text(COPY)
    pipeline = first.client.resolve_pipeline("copy")
    job_id, payload_id = first.client.create_job(pipeline, "job", JobPriority.NORMAL, {"k": "v"})
    first.client.upload(payload_id, "a", file_of(tmp_path, b"content"))
    first.starter.away = True
    first.client.start_job(job_id)
    first.stop()
    second = start_platform()
    job = second.client.job_status(job_id)
    assert (job.state, job.pipeline_id, dict(job.metadata)) == (JobState.RUNNING, pipeline, {"k": "v"})
    assert second.client.download(payload_id, "input/a", tmp_path / "target") == 7
    assert second.starter.asked.wait(10)
    assert second.starter.started == [job_id], "what was answered as started is handed over by the next process"


SERVER = """
import asyncio, sys
from pathlib import Path
from clara_dicom_adapter.clara.embedded.service import PlatformService
class Nobody:
    async def start(self, job): pass
    async def cancel(self, job): pass
async def main():
    service = PlatformService(Path(sys.argv[1]), Path(sys.argv[2]))
    await service.start(Nobody())
    print(service.endpoint, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_an_upload_cut_by_kill_9_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    folder, pipelines = tmp_path / "platform", tmp_path / "definitions"
    pipelines.mkdir()
    (pipelines / "copy.yaml").write_text(COPY)

    def serve() -> tuple["subprocess.Popen[str]", PlatformClient]:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(folder), str(pipelines)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        endpoint = next(line for line in process.stdout if line.startswith("127.0.0.1:"))
        return process, PlatformClient(endpoint.strip(), call_timeout=20)

    source = file_of(tmp_path, os.urandom(8 * CHUNK))
    process, client = serve()
    try:
        job_id, payload_id = client.create_job(client.resolve_pipeline("copy"), "j", JobPriority.NORMAL, {})
        client.upload(payload_id, "whole", source)

        def kill_in_the_middle(sent: int) -> None:
            if sent == 3 * CHUNK:
                while not any((folder / "arriving").iterdir()):  # handed over is not yet arrived
                    assert process.poll() is None
                os.kill(process.pid, signal.SIGKILL)
                process.wait()

        with pytest.raises(PlatformUnreachable):
            client.upload(payload_id, "cut", source, kill_in_the_middle)
    finally:
        client.close()
        process.kill()
        process.communicate()
    assert list((folder / "arriving").iterdir()), "it was in the middle"
    process, client = serve()
    try:
        assert not list((folder / "arriving").iterdir())
        assert [(file.name, file.size) for file in client.payload_files(payload_id)] == [("input/whole", 8 * CHUNK)]
        client.upload(payload_id, "cut", source)
        client.start_job(job_id)
        assert len(client.payload_files(payload_id)) == 2
    finally:
        client.close()
        process.kill()
        process.communicate()


def test_two_platforms_cannot_share_a_port(platform: RunningPlatform, tmp_path: Path) -> None:
    other = PlatformService(tmp_path / "other", tmp_path / "none", port=platform.service.port)
    with pytest.raises(RuntimeError):
        other._start_grpc(lambda: None)
    other.close()


def test_two_platforms_cannot_share_a_folder(platform: RunningPlatform) -> None:
    with pytest.raises(SpoolInUse):
        PlatformService(platform.folder / "platform", platform.pipelines)


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "platform.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(SpoolUnusable):
        PlatformService(tmp_path, tmp_path / "definitions")
