"""The parts as the chart runs them: its commands and variables, its accounts, and probes that answer."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE
from support.chart import container, one, render, variables
from support.kubernetes_cluster import without_proxy
from support.kubernetes_place import EVERY_KIND, Place
from support.site import wait_until
from support.started import process_of_its_own

from clara_dicom_adapter.part_status import PartFile, read_one

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
AE_TITLE = {"aeTitle": "MODEL", "processorSettings": {"pipeline-a": "p"}}

Run = Callable[[str, str, str], PartFile]


@pytest.fixture
def run(place: Place, helm: Path, tmp_path: Path) -> Iterator[Run]:
    """Start a container's part with the chart's variables; folders and ports are this test's."""
    documents = render(helm, {"dicomAdapter": EVERY_KIND}, namespace=place.namespace)
    config = tmp_path / "appsettings.json"
    config.write_text(one(documents, "ConfigMap")["data"]["appsettings.json"])
    with ExitStack() as processes:

        def start(kind: str, component: str, part: str) -> PartFile:
            told = variables(container(documents, kind, component, part))
            told.pop("DicomAdapter__api__authentication__keyFile", None)
            data = tmp_path / "data" / component
            told |= {
                "HOME": str(tmp_path),
                "CLARA_DICOM_DATA_DIR": str(data),
                "CLARA_DICOM_CONFIG": str(config),
                "ConnectionStrings__DicomAdapterDatabase": f"Data Source={tmp_path / 'dicomadapter.db'}",
                "DicomAdapter__storage__temporary": str(tmp_path / "payloads"),
                "DicomAdapter__storage__watermarkPercent": "100",
                "DicomAdapter__storage__reserveSpaceGB": "0",
                "DicomAdapter__dicom__scp__host": "127.0.0.1",
                "DicomAdapter__dicom__scp__port": "0",
                "DicomAdapter__dicom__scp__receivers": "1",
                "DicomAdapter__api__host": "127.0.0.1",
                "DicomAdapter__api__port": "0",
                "DicomAdapter__health__port": "0",
                "DicomAdapter__kubernetes__kubeconfig": str(place.kubeconfig(component)),
            }
            environment = {**without_proxy(), **told}
            command = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
            command += [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", part]
            processes.enter_context(process_of_its_own(command, tmp_path / f"{part}.log"))
            file = data / "run" / f"{part}.json"
            wait_until(f"{part} is ready", lambda: read_one(file) is not None, 60)
            found = read_one(file)
            assert found is not None
            return found

        yield start


def associates(address: str) -> bool:
    host, _, port = address.rpartition(":")
    modality = AE("CT1")
    modality.add_requested_context(CT_STORAGE)
    association = modality.associate(host, int(port), ae_title="MODEL")
    accepted = bool(association.is_established)
    if accepted:
        association.release()
    return accepted


def test_a_receiver_follows_the_resources_and_its_probes_answer(place: Place, run: Run) -> None:
    receiver = run("StatefulSet", "receiver", "receiver")
    assert receiver.status_url is not None
    dicom = receiver.addresses["dicom"]
    with httpx.Client(base_url=receiver.status_url, trust_env=False) as probe:
        assert probe.get("/health/live").status_code == 200
        wait_until("it is ready", lambda: probe.get("/health/ready").status_code == 200)
        assert not associates(dicom), "nobody is known yet"
        place.declare("claraaetitles", "model", AE_TITLE)
        place.declare("sources", "ct1", {"aeTitle": "CT1", "hostIp": "127.0.0.1"})
        wait_until("the sender is accepted", lambda: associates(dicom))
        place.withdraw("sources", "ct1")
        wait_until("and is not any more", lambda: not associates(dicom))
        assert "clara_dicom_" in probe.get("/metrics").text
        place.cluster.stop_server()
        try:
            wait_until("somebody is told", lambda: "sources are those" in str(probe.get("/status").json()["warnings"]))
            assert probe.get("/health/ready").status_code == 200, "it goes on"
        finally:
            place.cluster.start_server()
        wait_until("it is over", lambda: probe.get("/status").json()["warnings"] == [])


def test_the_rest_interface_writes_resources_and_judges_those_of_others(place: Place, run: Run) -> None:
    api = run("Deployment", "worker", "api")
    with httpx.Client(base_url=api.addresses["api"], trust_env=False) as rest:
        assert rest.get("/health/live").status_code == 200
        assert rest.get("/health/ready", params={"role": "api"}).status_code == 200
        made = rest.post("/api/config/claraaetitle", json=AE_TITLE)
        assert (made.status_code, made.headers["Location"]) == (201, "/api/config/claraaetitle/MODEL")
        assert place.accepted("claraaetitles", "model")[:2] == ("True", "Accepted")
        assert rest.post("/api/config/claraaetitle", json=AE_TITLE).status_code == 400
        place.declare("claraaetitles", "thief", AE_TITLE)
        assert place.accepted("claraaetitles", "thief")[:2] == ("False", "Conflict")
        assert [each["name"] for each in rest.get("/api/config/claraaetitle").json()] == ["MODEL"]
        assert rest.delete("/api/config/claraaetitle/MODEL").status_code == 200
        assert place.names("claraaetitles") == ["thief"]


def test_commands_work_on_the_resources(place: Place, tmp_path: Path) -> None:
    environment = without_proxy() | {
        "CLARA_DICOM_DATA_DIR": str(tmp_path / "data"),
        "DicomAdapter__dicom__scp__readSourcesFromCrd": "true",
        "DicomAdapter__kubernetes__kubeconfig": str(place.kubeconfig("worker")),
    }

    def clara(*arguments: str) -> str:
        command = [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    clara("create", "src", "-a", "MYPACS", "-i", "10.20.30.1")
    assert place.names("sources") == ["mypacs-10.20.30.1"]
    assert json.loads(clara("list", "src", "--json")) == [{"aeTitle": "MYPACS", "hostIp": "10.20.30.1"}]
    clara("delete", "src", "-a", "MYPACS")
    assert place.names("sources") == []
