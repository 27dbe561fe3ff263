"""What files are called in a payload."""

from pathlib import Path

import pytest

from clara_dicom_adapter.activities.uploading import Transfer
from clara_dicom_adapter.spool import SpooledInstance


@pytest.mark.parametrize(
    ("study", "series", "name"),
    [
        ("1.2.3", "1.2.3.4", "dcm/1.2.3/1.2.3.4/1.2.3.4.5.dcm"),
        ("", "1.2.3.4", "dcm/unknown/1.2.3.4/1.2.3.4.5.dcm"),
        ("../..", "/etc", "dcm/unknown/unknown/1.2.3.4.5.dcm"),
    ],
)
def test_a_file_is_named_by_usable_uids_and_never_by_its_patient(
    tmp_path: Path, study: str, series: str, name: str
) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"12345")
    instance = SpooledInstance(
        association_id="a1",
        sequence=1,
        received_ns=1,
        bytes=5,
        path=path,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3.4.5",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=study,
        series_instance_uid=series,
        readable=True,
        node_id="n1",
    )
    assert Transfer.of(instance) == Transfer(path, name, 5)
