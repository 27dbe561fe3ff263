"""Pipelines from the folder and over gRPC."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from support.platform import COPY, RunningPlatform

from clara_dicom_adapter.clara.embedded.pipelines import id_of
from clara_dicom_adapter.clara.model import JobPriority
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs
from clara_dicom_adapter.errors import PlatformRefused

FIXED = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def open_platform(start_platform: Callable[..., RunningPlatform]) -> RunningPlatform:
    """A platform that takes definitions over gRPC."""
    return start_platform(allow_pipeline_creation=True)


@pytest.fixture
def stub(open_platform: RunningPlatform) -> Iterator[stubs.PipelinesStub]:
    with grpc.insecure_channel(open_platform.service.endpoint) as channel:
        yield stubs.PipelinesStub(channel)


def creation(content: str, path: str = "pipeline.yaml", **fields: object) -> Iterator[pb.PipelinesCreateRequest]:
    """A definition in two messages, as a client may send it."""
    half = len(content) // 2
    for part in (content[:half], content[half:]):
        definition = pb.PipelineDefinitionFile(path=path, content=part)
        yield pb.PipelinesCreateRequest(definition=definition, **fields)  # type: ignore[arg-type]


def test_pipelines_are_found_by_id_and_name_without_a_restart(platform: RunningPlatform) -> None:
    client = platform.client
    assert client.resolve_pipeline("copy") == client.resolve_pipeline("COPY") == id_of("copy")
    folder = platform.pipelines / "mine"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(COPY.replace("name: copy\nparam", f"name: second\nid: {FIXED}\nparam"))
    assert {pipeline.name: pipeline.pipeline_id for pipeline in client.list_pipelines()} == {
        "copy": id_of("copy"),
        "second": FIXED,
    }
    assert client.resolve_pipeline(FIXED.upper()) == FIXED
    with pytest.raises(PlatformRefused, match="no pipeline is named 'third'; there are: copy, second"):
        client.resolve_pipeline("third")
    (folder / "pipeline.yaml").unlink()
    assert [pipeline.name for pipeline in client.list_pipelines()] == ["copy"]


def test_an_edit_takes_effect_and_a_broken_file_hides_only_itself(platform: RunningPlatform) -> None:
    (platform.pipelines / "broken.yml").write_text("name: broken")
    (platform.pipelines / "double.yaml").write_text(COPY)
    assert [pipeline.name for pipeline in platform.client.list_pipelines()] == ["copy"]
    (platform.pipelines / "copy.yaml").write_text(COPY.replace("name: copy\nparam", "name: renamed\nparam"))
    assert sorted(pipeline.name for pipeline in platform.client.list_pipelines()) == ["copy", "renamed"]


def test_details_and_metadata(platform: RunningPlatform) -> None:
    pipeline = pb.Identifier(value=id_of("copy"))
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        pipelines = stubs.PipelinesStub(channel)
        added = pipelines.AddMetadata(pb.PipelinesAddMetadataRequest(pipeline_id=pipeline, metadata={"Owner": "x"}))
        assert added.header.code == 0
        again = pipelines.AddMetadata(pb.PipelinesAddMetadataRequest(pipeline_id=pipeline, metadata={"OWNER": "y"}))
        assert again.header.code < 0
        (details,) = pipelines.Details(pb.PipelinesDetailsRequest(pipeline_id=pipeline))
        assert (details.name, details.definition.path, details.definition.content) == ("copy", "copy.yaml", COPY)
        assert dict(details.metadata) == {"Owner": "x"}
        assert [node.name for node in details.dag] == ["copy"]
        left = pipelines.RemoveMetadata(pb.PipelinesRemoveMetadataRequest(pipeline_id=pipeline, keys=["owner"]))
        assert dict(left.metadata) == {}
        (unknown,) = pipelines.Details(pb.PipelinesDetailsRequest(pipeline_id=pb.Identifier(value="0" * 32)))
        assert unknown.header.code == -0x1001


def test_commands_are_not_taken_over_grpc_unless_allowed(platform: RunningPlatform) -> None:
    with grpc.insecure_channel(platform.service.endpoint) as channel:
        pipelines = stubs.PipelinesStub(channel)
        refused = pipelines.Create(creation(COPY.replace("name: copy\nparam", "name: new\nparam")))
        assert "allowPipelineCreation" in refused.header.messages[0]
        update = pb.PipelinesUpdateRequest(
            pipeline_id=pb.Identifier(value=id_of("copy")), definition=pb.PipelineDefinitionFile(path="p", content=COPY)
        )
        assert pipelines.Update(iter([update])).header.code < 0
        remove = pb.PipelinesRemoveRequest(pipeline_id=pb.Identifier(value=id_of("copy")))
        assert pipelines.Remove(remove).header.code < 0
    assert [pipeline.name for pipeline in platform.client.list_pipelines()] == ["copy"]


def test_a_pipeline_lives_and_dies_over_grpc(open_platform: RunningPlatform, stub: stubs.PipelinesStub) -> None:
    client = open_platform.client
    created = stub.Create(creation(COPY, pipeline_id=pb.Identifier(value=FIXED), metadata={"k": "v"}))
    assert created.header.code == 0, created.header.messages
    assert client.resolve_pipeline("copy") == created.pipeline_id.value == FIXED
    assert stub.Create(creation(COPY)).header.code < 0, "the name is taken"
    job_id, _ = client.create_job(FIXED, "j", JobPriority.NORMAL, {})

    changed = COPY.replace("name: copy\nparam", "name: changed\nparam")
    update = pb.PipelinesUpdateRequest(
        pipeline_id=pb.Identifier(value=FIXED), definition=pb.PipelineDefinitionFile(path="x.yaml", content=changed)
    )
    assert stub.Update(iter([update])).header.code == 0
    assert [pipeline.name for pipeline in client.list_pipelines()] == ["changed"]
    revisions = open_platform.folder / "platform" / "pipelines" / FIXED
    open_platform.service.clear_up()
    assert len(list(revisions.iterdir())) == 2, "the job needs the one it was created with"
    client.cancel(job_id)
    open_platform.service.clear_up()
    assert len(list(revisions.iterdir())) == 1

    assert stub.Remove(pb.PipelinesRemoveRequest(pipeline_id=pb.Identifier(value=FIXED))).header.code == 0
    assert client.list_pipelines() == []
    assert client.job_status(job_id).name == "j"


def test_pipelines_created_over_grpc_survive_a_restart(
    open_platform: RunningPlatform, stub: stubs.PipelinesStub, start_platform: Callable[..., RunningPlatform]
) -> None:
    created = stub.Create(creation(COPY))
    open_platform.stop()
    again = start_platform()
    assert [pipeline.pipeline_id for pipeline in again.client.list_pipelines()] == [created.pipeline_id.value]


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"pipeline.yaml": "name: x"}, -0x1101),
        ({"pipeline.yaml": ""}, -0x1101),
        ({"a.yaml": COPY, "b.yaml": COPY}, -0x1100),
        ({"../a.py": "x", "pipeline.yaml": COPY}, -1),
        ({}, -0x1100),
    ],
)
def test_unusable_definitions_are_refused(
    open_platform: RunningPlatform, stub: stubs.PipelinesStub, files: dict[str, str], code: int
) -> None:
    messages = [
        pb.PipelinesCreateRequest(definition=pb.PipelineDefinitionFile(path=path, content=content))
        for path, content in files.items()
    ]
    assert stub.Create(iter(messages)).header.code == code
    assert open_platform.client.list_pipelines() == []
    assert not list((open_platform.folder / "platform" / "pipelines").iterdir())
