"""The header written in front of every instance, and the strict reading of any file's meta information."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from clara_dicom_adapter.dicom import part10, uids
from clara_dicom_adapter.errors import InvalidInstance

CT = "1.2.840.10008.5.1.4.1.1.2"
TEST_FILES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))

uid_text = st.text("0123456789.", min_size=1, max_size=64).filter(uids.is_usable)
ae_title_text = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), max_size=16)


@given(sop_class=uid_text, sop_instance=uid_text, transfer_syntax=uid_text, ae_title=ae_title_text)
def test_it_is_read_as_it_was_written(sop_class: str, sop_instance: str, transfer_syntax: str, ae_title: str) -> None:
    header = part10.header(sop_class, sop_instance, transfer_syntax, ae_title)
    stream = io.BytesIO(header)
    meta = read_partial(stream, stop_when=lambda *_: True).file_meta
    assert stream.tell() == len(header)
    assert meta.FileMetaInformationGroupLength == len(header) - 128 - 4 - 12
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (sop_class, sop_instance)
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle or "") == (transfer_syntax, ae_title)
    assert meta.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == uids.IMPLEMENTATION_VERSION_NAME
    ours = part10.read_meta_of(io.BytesIO(header + b"\x08\x00\x05\x00CS\x00\x00"))
    assert ours.dataset_offset == len(header)
    assert (ours.sop_class_uid, ours.sop_instance_uid, ours.transfer_syntax_uid) == (
        sop_class,
        sop_instance,
        transfer_syntax,
    )
    assert ours.source_ae_title == ae_title


def test_it_is_byte_for_byte_what_pydicom_writes() -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(CT)
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.45")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(uids.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = uids.IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = "MODALITY"
    dataset = Dataset()
    dataset.file_meta = meta
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    assert part10.header(CT, "1.2.3.45", ExplicitVRLittleEndian, "MODALITY") == stream.getvalue()


def test_dcmdump_reads_it(tmp_path: Path) -> None:
    if shutil.which("dcmdump") is None:
        message = "dcmdump is not installed: apt-get install dcmtk"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    path = tmp_path / "one.dcm"
    path.write_bytes(part10.header(CT, "1.2.3.4", ImplicitVRLittleEndian, "MODALITY"))
    done = subprocess.run(["dcmdump", "-Un", path], capture_output=True, text=True, check=True)
    assert "W:" not in done.stderr
    assert "E:" not in done.stderr
    for expected in (f"[{CT}]", "[1.2.3.4]", f"[{ImplicitVRLittleEndian}]", "[MODALITY]", "(0002,0013)", "(0002,0000)"):
        assert expected in done.stdout


def test_an_ae_title_that_is_no_ascii_does_not_break_the_header() -> None:
    header = part10.header(CT, "1.2.3", ExplicitVRLittleEndian, "GER\u00c4T")
    assert part10.read_meta_of(io.BytesIO(header)).source_ae_title == "GER?T"


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.name)
def test_real_files_are_read_as_pydicom_reads_them(path: Path) -> None:
    try:
        theirs = pydicom.dcmread(path, stop_before_pixels=True).file_meta
        wanted = tuple(
            str(theirs.get(name, ""))
            for name in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
        )
    except InvalidDicomError:
        wanted = ("", "", "")
    if not all(wanted):
        with pytest.raises(InvalidInstance):
            part10.read_meta(path)
        return
    ours = part10.read_meta(path)
    assert (ours.sop_class_uid, ours.sop_instance_uid, ours.transfer_syntax_uid) == wanted
    with path.open("rb") as stream:
        read_preamble(stream, force=False)
        _read_file_meta_info(stream)
        assert ours.dataset_offset == stream.tell()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        bytes(128) + b"DICX",
        part10.header(CT, "1.2.3", ExplicitVRLittleEndian, "A")[:-1],
        part10.header(CT, "1.2.3", ExplicitVRLittleEndian, "A")[:150],
        part10.header(CT, "", ExplicitVRLittleEndian, "A"),
        part10.header(CT, "1.2.3", "", "A"),
        part10.header("no uid", "1.2.3", ExplicitVRLittleEndian, "A"),
        bytes(128) + b"DICM" + b"\x02\x00\x02\x00\x1a\x00\x00\x00",  # implicit VR
        bytes(128) + b"DICM" + b"\x02\x00\x01\x00OB\x00\x00\xf0\xff\xff\xff",  # four gigabytes of version
    ],
)
def test_what_is_no_part_10_file_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInstance):
        part10.read_meta_of(io.BytesIO(content))


def test_a_wrong_group_length_does_not_matter() -> None:
    header = bytearray(part10.header(CT, "1.2.3", ExplicitVRBigEndian, "A"))
    header[140:144] = b"\x05\x00\x00\x00"
    assert part10.read_meta_of(io.BytesIO(bytes(header) + b"\x00\x08\x00\x05CS\x00\x00")).dataset_offset == len(header)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize(
    "dataset", [b"\x02\x00\x03\x00UI\x04\x00" + b"\xff" * 20, b"\x02\x00\x03\x00" + bytes(20), b"\x02\x00"]
)
def test_a_dataset_that_looks_like_meta_information_is_not_taken_for_it(syntax: str, dataset: bytes) -> None:
    header = part10.header(CT, "1.2.3", syntax, "A")
    assert part10.read_meta_of(io.BytesIO(header + dataset)).dataset_offset == len(header)
