"""The truth about the parts: who does not answer is never said to run."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from clara_dicom_adapter.part_status import StatusServer, read_all, remove, serve, write_ready

Start = Callable[..., StatusServer]


@pytest.fixture
def start(run_folder: Path) -> Iterator[Start]:
    """Start a part: its file, and its status server in this process."""
    servers: list[StatusServer] = []

    def begin(part: str, status: dict[str, Any], registry: CollectorRegistry | None = None) -> StatusServer:
        server = serve(lambda: status, registry)
        servers.append(server)
        write_ready(run_folder, part, {"status": server.port})
        return server

    yield begin
    for server in servers:
        server.close()


async def test_nothing_runs_until_it_says_so(api: httpx.AsyncClient) -> None:
    assert (await api.get("/health/live")).json() == {"status": "Healthy"}
    answer = await api.get("/health/ready")
    assert answer.status_code == 503
    assert {role: health["ready"] for role, health in answer.json()["roles"].items()} == {
        "api": True,
        "receiver": False,
        "worker": False,
    }
    status = (await api.get("/health/status")).json()
    assert status["activeDimseConnections"] == 0
    assert set(status["services"].values()) == {"Stopped"}


async def test_readiness_is_per_role_and_status_has_the_shape_of_0_8(api: httpx.AsyncClient, start: Start) -> None:
    receiver = {"ready": True, "open_associations": 3}
    start("receiver", receiver)
    start("worker", {"ready": False, "reason": "Temporal cannot be reached"})
    assert (await api.get("/health/ready", params={"role": "receiver"})).status_code == 200
    worker = await api.get("/health/ready", params={"role": "worker"})
    assert worker.status_code == 503
    assert worker.json()["roles"]["worker"]["reason"] == "worker: Temporal cannot be reached"
    assert (await api.get("/health/ready")).status_code == 503
    status = (await api.get("/health/status")).json()
    assert status["activeDimseConnections"] == 3
    assert status["services"] == {
        "SpaceReclaimerService": "Running",
        "JobSubmissionService": "Running",
        "DataRetrievalService": "Stopped",
        "ScpService": "Running",
        "ScuExportService": "Running",
        "DicomWebExportService": "Stopped",
    }
    receiver["ready"] = False  # asked anew each time
    assert (await api.get("/health/ready", params={"role": "receiver"})).status_code == 503


async def test_a_part_that_works_may_have_a_warning(api: httpx.AsyncClient, start: Start) -> None:
    start("receiver", {"ready": True, "warnings": ["1 of 2 listener processes listen"], "listeners": 2})
    ready = await api.get("/health/ready", params={"role": "receiver"})
    assert ready.status_code == 200
    assert ready.json()["roles"]["receiver"]["warnings"] == ["receiver: 1 of 2 listener processes listen"]
    (part,) = (await api.get("/health/status")).json()["parts"]
    assert part["warnings"] == ["1 of 2 listener processes listen"]
    assert part["status"]["listeners"] == 2


async def test_a_killed_part_has_stopped_and_a_mute_one_is_unknown(
    api: httpx.AsyncClient, start: Start, run_folder: Path
) -> None:
    start("worker", {}).close()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_ready(run_folder, "receiver", {"status": 1}, pid=child.pid)
    child.kill()
    # still a zombie here: it has not been waited for
    states = {part["part"]: part["state"] for part in (await api.get("/health/status")).json()["parts"]}
    child.communicate()
    assert states == {"receiver": "Stopped", "worker": "Unknown"}
    assert (await api.get("/health/status")).json()["services"]["ScuExportService"] == "Unknown"


def test_a_process_id_that_was_used_again_is_not_the_part(run_folder: Path) -> None:
    path = write_ready(run_folder, "receiver", {})
    assert [part.alive for part in read_all(run_folder)] == [True]
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"birth": content["birth"] - 1}))
    (run_folder / "broken.json").write_text("{")
    assert [part.alive for part in read_all(run_folder)] == [False]
    remove(run_folder, "receiver")
    remove(run_folder, "receiver")
    assert read_all(run_folder) == []


async def test_a_status_that_fails_is_no_running_part(api: httpx.AsyncClient, run_folder: Path) -> None:
    def fail() -> dict[str, Any]:
        raise OSError("the disk is gone")

    with StatusServer(fail) as server:
        write_ready(run_folder, "receiver", {"status": server.port})
        answer = await api.get("/health/ready", params={"role": "receiver"})
    assert answer.json()["roles"]["receiver"]["reason"] == "receiver: it does not answer: HTTPStatusError"


async def test_metrics_of_all_parts_are_merged_and_marked(api: httpx.AsyncClient, start: Start) -> None:
    for part, count in (("receiver-1", 3), ("receiver-2", 4)):
        registry = CollectorRegistry()
        Counter("clara_dicom_instances_received", "Instances", registry=registry).inc(count)
        Gauge("clara_dicom_spool_bytes", "Bytes", registry=registry).set(count * 10)
        start(part, {"ready": True}, registry)
    text = (await api.get("/metrics")).text
    samples = {
        (sample.name, sample.labels.get("part")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["clara_dicom_instances_received_total", "receiver-1"] == 3
    assert samples["clara_dicom_instances_received_total", "receiver-2"] == 4
    assert samples["clara_dicom_spool_bytes", "receiver-2"] == 40
    assert samples["clara_dicom_part_up", "receiver-1"] == 1
    assert text.count("# TYPE clara_dicom_spool_bytes gauge") == 1
