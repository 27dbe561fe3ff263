"""``scu>logDimseDatasets``: what an object says is logged before it is sent."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.dicom_objects import make_encoded
from support.dicom_peers import pynetdicom_scp

from clara_dicom_adapter.dicom.dataset_log import DatasetLog
from clara_dicom_adapter.dicom.sender import SendSettings, TimeLimits, send

LIMITS = TimeLimits(connect=5, association=5, response=5)


@pytest.mark.parametrize(
    ("dataset_log", "shown"), [(None, None), (DatasetLog(), "***"), (DatasetLog(patient_attributes=True), "SYNTHETIC")]
)
def test_a_dataset_is_logged_when_asked_for_and_the_patient_is_masked(
    tmp_path: Path, dataset_log: DatasetLog | None, shown: str | None
) -> None:
    files = make_encoded(tmp_path, sizes=(700,))
    settings = SendSettings("SENDER", LIMITS, retries=0, dataset_log=dataset_log)
    with pynetdicom_scp(files) as (peer, _), capture_logs() as lines:
        assert send(files, peer, settings, lambda _result: None).sent == 3
    logged = [line for line in lines if line["event"] == "dimse_dataset"]
    assert len(logged) == (0 if dataset_log is None else 3)
    for line in logged:
        assert f"(0010,0020) LO PatientID: {shown}" in line["elements"]
        assert "(0020,000D) UI StudyInstanceUID: 2.25.1" in line["elements"]
