"""What a log may say of a dataset: never, unless it is asked for, who the patient is."""

from pathlib import Path

import pydicom.config
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from clara_dicom_adapter.dicom import dataset_words
from clara_dicom_adapter.dicom.dataset_words import MASKED, describe

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy with other things."""
SECRET = "SECRET"


def dataset() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.StudyDate = "20240501"
    ds.Modality = "CT"
    ds.Manufacturer = SECRET
    ds.ReferringPhysicianName = f"{SECRET}^A"
    ds.PatientName = f"{SECRET}^B"
    ds.PatientID = SECRET
    ds.PatientSex = "F"
    ds.PatientWeight = "81.5"
    ds.OtherPatientIDsSequence = [Dataset()]
    ds.OtherPatientIDsSequence[0].PatientID = SECRET
    ds.RequestAttributesSequence = [Dataset()]
    ds.RequestAttributesSequence[0].ScheduledProcedureStepID = SECRET
    ds.RequestAttributesSequence[0].StudyInstanceUID = "1.2.3"
    ds.SliceThickness = "0.5"
    ds.Rows = 512
    block = ds.private_block(0x0011, SECRET, create=True)
    block.add_new(1, "LO", SECRET)
    block.add_new(2, "US", 7)
    ds.add_new(0x7FE00010, "OW", b"\1" * 64)
    return ds


def encoded(ds: Dataset, *, implicit: bool = False, little: bool = True) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, ds)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("syntax", "implicit", "little"),
    [
        (ExplicitVRLittleEndian, False, True),
        (ImplicitVRLittleEndian, True, True),
        (ExplicitVRBigEndian, False, False),
        (JPEGBaseline8Bit, False, True),
    ],
)
def test_only_values_that_cannot_tell_the_patient_are_shown(syntax: str, implicit: bool, little: bool) -> None:
    data = encoded(dataset(), implicit=implicit, little=little)
    lines = describe(data, syntax, size=len(data))
    text = "\n".join(lines)
    assert SECRET not in text
    assert "81.5" not in text
    assert "20240501" not in text
    assert "(0008,0060) CS Modality: CT" in lines
    assert "(0008,0016) UI SOPClassUID: 1.2.840.10008.5.1.4.1.1.2" in lines
    assert "(0028,0010) US Rows: 512" in lines
    assert f"(0010,0010) PN PatientName: {MASKED}" in lines
    assert f"(0010,0040) CS PatientSex: {MASKED}" in lines
    assert f">(0010,0020) LO PatientID: {MASKED}" in lines
    assert ">(0020,000D) UI StudyInstanceUID: 1.2.3" in lines


def test_every_value_is_shown_when_the_setting_says_so() -> None:
    data = encoded(dataset())
    lines = describe(data, ExplicitVRLittleEndian, size=len(data), patient_attributes=True)
    assert f"(0010,0010) PN PatientName: {SECRET}^B" in lines
    assert "(0010,1030) DS PatientWeight: 81.5" in lines
    assert f"(0011,1001) LO private: {SECRET}" in lines


def test_a_deflated_dataset_is_described_too() -> None:
    import zlib

    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = packer.compress(encoded(dataset())) + packer.flush()
    assert "(0008,0060) CS Modality: CT" in describe(data, DeflatedExplicitVRLittleEndian, size=len(data))


def test_a_head_that_breaks_off_is_described_as_far_as_it_goes() -> None:
    data = encoded(dataset())
    lines = describe(data[:60], ExplicitVRLittleEndian, size=len(data))
    assert lines[0].startswith("(0008,0016)")
    assert lines[-1] == f"... the first 60 of {len(data)} bytes"


@PATIENT
@given(st.binary(max_size=400), st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, "1.2.3", ""]))
def test_no_bytes_make_it_fail(data: bytes, syntax: str) -> None:
    assert all(isinstance(line, str) for line in describe(data, syntax, size=len(data)))


@PATIENT
@given(st.integers(0, 1_000_000))
def test_nothing_of_a_damaged_dataset_is_shown_that_is_masked_in_a_whole_one(seed: int) -> None:
    """Damage must not turn a name into a number that is shown whole."""
    data = bytearray(encoded(dataset(), implicit=True))
    data[seed % len(data)] ^= 1 + seed // len(data) % 255
    text = "\n".join(describe(bytes(data), ImplicitVRLittleEndian, size=len(data)))
    assert f"{SECRET}^" not in text


def test_a_value_that_does_not_look_like_its_representation_is_masked() -> None:
    ds = Dataset()
    with pydicom.config.disable_value_validation():
        ds.add_new(0x00080060, "CS", "Doe^Jane")
        ds.add_new(0x00080018, "UI", "Jane Doe")
        ds.add_new(0x00180050, "DS", "1.5")
    data = encoded(ds)
    assert describe(data, ExplicitVRLittleEndian, size=len(data)) == [
        "(0008,0018) UI SOPInstanceUID: ***",
        "(0008,0060) CS Modality: ***",
        "(0018,0050) DS SliceThickness: 1.5",
    ]


def test_a_file_that_is_gone_is_no_reason_to_fail(tmp_path: Path) -> None:
    found = dataset_words.of_file(tmp_path / "gone", 0, ExplicitVRLittleEndian, size=1, patient_attributes=False)
    assert found == []
