"""Which parts run, and what they are told, for different settings."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clara_dicom_adapter.cli.part_process import PartSpec
from clara_dicom_adapter.cli.parts.plan import Plan
from clara_dicom_adapter.cli.running import PartLog
from clara_dicom_adapter.configuration.settings import (
    ApiSettings,
    ClientCertificates,
    DataFolder,
    DicomSettings,
    PlatformSettings,
    ScpSettings,
    ScpTlsSettings,
    ServicesSettings,
    Settings,
    TemporalSettings,
)
from clara_dicom_adapter.receiver.listeners import listen

ANY_PORTS = Settings(
    dicom=DicomSettings(scp=ScpSettings(port=0, shutdown_grace_seconds=3)),
    api=ApiSettings(port=0),
    services=ServicesSettings(
        temporal=TemporalSettings(embedded_port=0, embedded_ui_port=0),
        platform=PlatformSettings(embedded_port=0, embedded_results_port=0, embedded_host="0.0.0.0"),
    ),
)
ELSEWHERE = Settings(
    services=ServicesSettings(
        temporal=TemporalSettings(address="temporal.example:7233"),
        platform=PlatformSettings(endpoint="clara.example:50051"),
        results_service_endpoint="http://clara.example:8088",
    )
)


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[list[Plan]]:
    made = [Plan(settings, DataFolder(tmp_path), tmp_path / "appsettings.json") for settings in (ANY_PORTS, ELSEWHERE)]
    yield made
    for plan in made:
        plan.close()


def named(plan: Plan) -> dict[str, PartSpec]:
    return {part.name: part for part in plan.parts}


def test_everything_that_is_not_configured_is_embedded_and_the_receiver_stops_first(plans: list[Plan]) -> None:
    assert list(named(plans[0])) == ["temporal", "platform", "worker", "api", "receiver"]
    assert list(named(plans[1])) == ["worker", "api", "receiver"]


def test_only_the_worker_waits_for_temporal(plans: list[Plan]) -> None:
    embedded, elsewhere = named(plans[0]), named(plans[1])
    assert {name for name, part in embedded.items() if part.after == ("temporal",)} == {"worker"}
    assert not any(part.after for part in elsewhere.values())


def test_free_ports_are_chosen_once_and_told_to_everybody(plans: list[Plan]) -> None:
    told = plans[0].environment
    ports = {name: int(value) for name, value in told.items() if name.lower().endswith("port")}
    assert len(ports) == len(set(ports.values())) == 6
    assert all(ports.values())
    port = told["DicomAdapter__services__temporal__embeddedPort"]
    assert told["DicomAdapter__services__temporal__address"] == f"127.0.0.1:{port}"
    platform_port = told["DicomAdapter__services__platform__embeddedPort"]
    assert told["DicomAdapter__services__platform__endpoint"] == f"127.0.0.1:{platform_port}"
    assert all(part.environment == told for part in plans[0].parts)


def test_what_is_configured_is_not_overridden(plans: list[Plan]) -> None:
    assert dict(plans[1].environment) == {"DicomAdapter__dicom__scp__port": "104", "DicomAdapter__api__port": "5000"}


def test_the_port_of_tls_is_chosen_like_the_others_when_there_is_tls(tmp_path: Path) -> None:
    tls = ScpTlsSettings(port=0, certificate_file=Path("ours.pem"), client_certificates=ClientCertificates.NONE)
    settings = ELSEWHERE.model_copy(update={"dicom": DicomSettings(scp=ScpSettings(tls=tls))})
    plan = Plan(settings, DataFolder(tmp_path))
    try:
        assert int(plan.environment["DicomAdapter__dicom__scp__tls__port"]) > 0
    finally:
        plan.close()


def test_a_chosen_port_can_be_listened_on_by_its_part(plans: list[Plan]) -> None:
    port = int(plans[0].environment["DicomAdapter__dicom__scp__port"])
    with socket.create_server(("0.0.0.0", port)):
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_chosen_port_is_free_on_every_address_of_the_receiver(tmp_path: Path) -> None:
    scp = ScpSettings(port=0, host=("127.0.0.1", "::1"))
    plan = Plan(Settings(dicom=DicomSettings(scp=scp)), DataFolder(tmp_path))
    try:
        for listening in listen(scp.host, int(plan.environment["DicomAdapter__dicom__scp__port"])):
            listening.close()
    finally:
        plan.close()


def test_the_receiver_gets_the_grace_of_its_associations(plans: list[Plan]) -> None:
    assert named(plans[0])["receiver"].stop_seconds > 3


def test_a_log_that_has_grown_keeps_one_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartLog, "MAXIMUM_BYTES", 100)
    log = PartLog(tmp_path / "logs" / "worker.log")
    for number in range(100):
        log.write(f"line {number:03}".encode())
    log.close()
    kept = b"".join((tmp_path / "logs" / name).read_bytes() for name in ("worker.log.1", "worker.log"))
    assert kept.endswith(b"line 098\nline 099\n")
    assert len(kept) < 300
