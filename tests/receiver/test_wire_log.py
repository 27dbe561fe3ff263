"""``logDimseDatasets`` and ``logDataPDUs`` of the SCP: what they say, and that they say nothing unasked."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.receiving import Configured, Receiver, associate, instance

from clara_dicom_adapter.configuration.settings import ScpSettings


def logged(tmp_path: Path, **settings: Any) -> list[dict[str, Any]]:
    """What an association with a C-ECHO and a C-STORE leaves in the log."""
    scp = ScpSettings.model_validate({"port": 0, "host": "127.0.0.1", **settings})
    with capture_logs() as lines:
        receiver = Receiver(tmp_path, Configured(), scp)
        receiver.service.start()
        try:
            association = associate(receiver.port)
            assert association.send_c_echo().Status == 0
            assert association.send_c_store(instance(40_000, uid="1.2.3.99")).Status == 0
            association.release()
            receiver.wait_until_closed()
        finally:
            receiver.service.stop(0)
            receiver.spool.close()
    return [dict(line) for line in lines if line["event"] in {"dimse_command", "dimse_dataset", "data_pdu"}]


def test_nothing_is_logged_unasked(tmp_path: Path) -> None:
    assert logged(tmp_path) == []


def test_commands_and_datasets_are_logged_and_the_patient_is_masked(tmp_path: Path) -> None:
    lines = logged(tmp_path, logDimseDatasets=True)
    assert [(line["event"], line["direction"], line.get("command", "")) for line in lines] == [
        ("dimse_command", "received", "C-ECHO-RQ"),
        ("dimse_command", "sent", "C-ECHO-RSP"),
        ("dimse_command", "received", "C-STORE-RQ"),
        ("dimse_dataset", "received", ""),
        ("dimse_command", "sent", "C-STORE-RSP"),
    ]
    assert "(0000,1000) UI AffectedSOPInstanceUID: 1.2.3.99" in lines[2]["elements"]
    assert "(0000,0900) US Status: 0" in lines[4]["elements"]
    assert "(0010,0010) PN PatientName: ***" in lines[3]["elements"]
    assert "(0020,000D) UI StudyInstanceUID: 1.2.3.4" in lines[3]["elements"]
    assert lines[3]["bytes"] > 40_000
    assert "Secret" not in str(lines)


def test_the_patient_is_shown_only_when_a_setting_says_so(tmp_path: Path) -> None:
    lines = logged(tmp_path, logDimseDatasets=True, logPatientAttributes=True)
    assert "(0010,0010) PN PatientName: Secret^Patient" in lines[3]["elements"]
    assert logged(tmp_path / "other", logPatientAttributes=True) == []


def test_each_p_data_pdu_is_logged_with_its_length_and_nothing_else(tmp_path: Path) -> None:
    lines = logged(tmp_path, logDataPDUs=True)
    assert {line["event"] for line in lines} == {"data_pdu"}
    received = [line["size"] for line in lines if line["direction"] == "received"]
    # an echo, a command, and 40 KB in PDUs of the 128 KB that were offered
    assert len(received) == 3
    assert max(received) > 40_000
    assert len([line for line in lines if line["direction"] == "sent"]) == 2
    assert {key for line in lines for key in line} == {"event", "direction", "size", "peer", "log_level"}


@pytest.mark.parametrize("smaller", [4096])
def test_a_dataset_in_many_pdus_is_many_lines(tmp_path: Path, smaller: int) -> None:
    lines = logged(tmp_path, logDataPDUs=True, maximumPduLength=smaller)
    assert len([line for line in lines if line["direction"] == "received"]) > 40_000 // smaller
