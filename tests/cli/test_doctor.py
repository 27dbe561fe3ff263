"""``clara dicom doctor``: what it finds, and what it says to do."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority
from support.commands import Clara
from support.dicom_peers import free_port, storescp

from clara_dicom_adapter.cli.checkup import machine
from clara_dicom_adapter.cli.checkup.finding import Level
from clara_dicom_adapter.configuration.settings import DicomSettings, ScpSettings, Settings, StorageSettings

Finding = dict[str, str]


@pytest.fixture
def config(tmp_path: Path, temporal_executable: Path) -> Path:
    """Settings for a machine where everything else is taken."""
    assert temporal_executable
    return written(tmp_path)


def written(folder: Path, **scp: Any) -> Path:
    path = folder / "appsettings.json"
    temporal = {"embeddedPort": 0, "embeddedUiPort": 0}
    path.write_text(
        json.dumps(
            {
                "DicomAdapter": {
                    "dicom": {"scp": {"port": 0, "host": "127.0.0.1", **scp}},
                    "api": {"port": 0},
                    "services": {"temporal": temporal, "platform": {"embeddedPort": 0, "embeddedResultsPort": 0}},
                    "storage": {"watermarkPercent": 100, "reserveSpaceGB": 0.001},
                }
            }
        )
    )
    return path


def examined(clara: Clara, config: Path, status: int = 0) -> dict[str, Finding]:
    done = clara("doctor", "--config", str(config), "--json")
    assert done.status == status, done.out
    return {finding["about"]: finding for finding in json.loads(done.out)}


def test_a_machine_that_is_ready_is_told_so(clara: Clara, config: Path) -> None:
    found = examined(clara, config)
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert {"settings", "port of dicom", "disk", "flush", "Temporal", "platform", "Results Service", "database"} <= set(
        found
    )
    text = clara("doctor", "--config", str(config)).out
    assert "ok       database: none yet: " in text


def test_settings_that_cannot_work_are_told_alone(clara: Clara, tmp_path: Path) -> None:
    done = clara("doctor", "--config", str(written(tmp_path, port=99999)), "--json")
    assert done.status == 1
    assert [(each["about"], each["level"]) for each in json.loads(done.out)] == [("settings", "problem")]


def test_a_secret_that_goes_out_in_the_clear_is_told(clara: Clara, config: Path) -> None:
    for name, scheme in (("PLAIN", "http"), ("SECURE", "https")):
        url = f"{scheme}://archive.hospital/dicom-web"
        assert clara("create", "dicomweb", "-n", name, "--url", url, "--token-file", "/token").status == 0
    found = examined(clara, config)
    assert "destination SECURE" not in found
    assert found["destination PLAIN"]["level"] == "warning"
    assert "the token to http://archive.hospital/dicom-web can be read" in found["destination PLAIN"]["message"]
    assert "`clara dicom delete dicomweb -n PLAIN`" in found["destination PLAIN"]["remedy"]


def test_destinations_are_tried_and_what_is_missing_is_named(clara: Clara, config: Path, tmp_path: Path) -> None:
    with storescp(tmp_path / "received") as peer:
        clara("create", "dest", "-n", "GOOD", "-a", "STORESCP", "-i", "127.0.0.1", "-p", str(peer.port))
        clara("create", "dest", "-n", "AWAY", "-a", "AWAY", "-i", "127.0.0.1", "-p", str(free_port()))
        found = examined(clara, config)
    assert found["destination GOOD"]["level"] == "ok"
    assert found["destination AWAY"]["level"] == "warning"
    assert "Connection refused" in found["destination AWAY"]["message"]
    assert "`clara dicom update dest -n AWAY`" in found["destination AWAY"]["remedy"]
    assert found["AE titles"]["remedy"] == "`clara dicom create aetitle -a AET pipeline-NAME=ID`"
    assert found["sources"]["level"] == "warning"


def test_services_that_do_not_answer_are_problems_with_a_remedy(
    clara: Clara, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr("clara_dicom_adapter.cli.checkup.services.SECONDS", 0.2)
    monkeypatch.setenv("DicomAdapter__services__temporal__address", away)
    monkeypatch.setenv("DicomAdapter__services__platform__endpoint", away)
    monkeypatch.setenv("DicomAdapter__services__resultsServiceEndpoint", f"http://{away}")
    monkeypatch.setenv("ConnectionStrings__DicomAdapterDatabase", "postgresql://nobody@127.0.0.1:1/none")
    clara("create", "src", "-a", "X", "-i", "h")
    Path(os.environ["CLARA_DICOM_DATA_DIR"]).mkdir(exist_ok=True)
    found = examined(clara, config, status=1)
    for about in ("Temporal", "platform", "Results Service", "database"):
        assert found[about]["level"] == "problem", about
        assert found[about]["remedy"]
    assert away in found["Temporal"]["message"]


def test_the_certificates_of_the_scp_are_looked_at(clara: Clara, tmp_path: Path, temporal_executable: Path) -> None:
    assert temporal_executable
    authority = Authority(tmp_path / "ca")
    ours = authority.issue("ours", days=100)
    tls = {"port": 0, "certificateFile": str(ours.certificate), "keyFile": str(ours.key), "caFile": str(authority.ca)}
    config = written(tmp_path, tls=tls)
    found = examined(clara, config)
    assert found["port of dicom_tls"]["level"] == "ok"
    assert "is valid until" in found["dicom>scp>tls>certificateFile"]["message"]
    assert found["dicom>scp>tls>caFile"]["level"] == "warning", "it ends within 30 days"
    assert found["dicom>scp>tls>caFile"]["remedy"] == "have it renewed"
    old = authority.issue("ours", days=-1)
    assert old == ours
    found = examined(clara, config, status=1)
    assert found["dicom>scp>tls>certificateFile"]["level"] == "problem"
    assert "expired on" in found["dicom>scp>tls>certificateFile"]["message"]


def settings_with(port: int) -> Settings:
    return Settings(dicom=DicomSettings(scp=ScpSettings(port=port, host=("127.0.0.1",))))


def test_a_port_that_is_taken_names_who_could_tell(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = next(machine.ports(settings_with(port), {}))
        ours = next(machine.ports(settings_with(port), {"dicom": f"127.0.0.1:{port}"}))
    assert (taken.level, ours.level) == (Level.PROBLEM, Level.OK)
    assert f"`ss -ltnp 'sport = :{port}'`" in taken.remedy
    elsewhere = ScpSettings(port=11112, host=("192.0.2.1",))
    assert next(machine.ports(Settings(dicom=DicomSettings(scp=elsewhere)), {})).level is Level.PROBLEM


def test_a_privileged_port_names_the_ways_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(hosts: tuple[str, ...], port: int) -> list[socket.socket]:
        raise PermissionError(13, "Permission denied", f"{hosts[0]}:{port}")

    monkeypatch.setattr(machine, "bind", refused)
    found = next(machine.ports(settings_with(104), {}))
    assert (found.level, found.message) == (Level.PROBLEM, "127.0.0.1:104 is for privileged processes")
    assert "net.ipv4.ip_unprivileged_port_start=104" in found.remedy


def test_a_full_disk_and_a_slow_one_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = list(machine.disk(tmp_path / "spool", StorageSettings(reserve_space_gb=1e9)))
    assert full[0].level is Level.PROBLEM
    assert not (tmp_path / "spool").exists(), "a check makes nothing"
    monkeypatch.setattr(machine, "_flush_seconds", lambda _: 0.05)
    slow = list(machine.disk(tmp_path, StorageSettings(watermark_percent=100, reserve_space_gb=0)))
    assert [(each.about, each.level) for each in slow] == [("disk", Level.OK), ("flush", Level.WARNING)]
    assert slow[1].message.startswith("50.0 ms to flush")
