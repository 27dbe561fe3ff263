"""Senders of others with PDUs of every size: all that they send is on disk, as it was."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from support import programs
from support.dcmtk import PROPOSE
from support.dicom_objects import EXPLICIT, IMPLICIT, JPEG, make_encoded
from support.dicom_peers import tool
from support.orthanc import orthanc
from support.receiving import LOOPBACK, Receiver, receiving, run

from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer

pytestmark = pytest.mark.e2e

THEIR_LONGEST = 131072
"""What dcmtk, Orthanc and dicom-rs can be told to use."""
OUR_LONGEST = 1048576
PDU_LENGTHS = (4096, 16384, 65536, THEIR_LONGEST)
SIZES = (4, 700, 2_500_000)
"""Bytes of pixel data, the last one more than fits into the longest PDU."""
SYNTAXES = (EXPLICIT, IMPLICIT, JPEG)


def data_set(path: Path) -> bytes:
    """What stands behind the file meta."""
    return path.read_bytes()[read_meta(path).dataset_offset :]


def elements(path: Path) -> dict[str, Any]:
    """Its elements, whatever their encoding."""
    return {str(element.tag): element.value for element in pydicom.dcmread(path)}


def stored(receiver: Receiver) -> dict[str, Path]:
    """The file of each SOP instance; each is there once."""
    receiver.wait_until_closed()
    found = [one for folder in receiver.spool.associations() for one in folder.stored()]
    by_uid = {one.sop_instance_uid: one.path for one in found}
    assert len(by_uid) == len(found)
    return by_uid


def assert_all_there(receiver: Receiver, files: Sequence[Path], content: Callable[[Path], object]) -> None:
    theirs = {read_meta(file).sop_instance_uid: file for file in files}
    ours = stored(receiver)
    assert ours.keys() == theirs.keys()
    different = [theirs[uid].name for uid, path in ours.items() if content(path) != content(theirs[uid])]
    assert different == []


@pytest.mark.parametrize("pdu_length", PDU_LENGTHS)
@pytest.mark.parametrize("ours", [4096, OUR_LONGEST])
def test_storescu(tmp_path: Path, pdu_length: int, ours: int) -> None:
    """Its own limit and ours: the smaller one counts."""
    with receiving(tmp_path / "spool", maximum_pdu_length=ours) as receiver:
        files = []
        for syntax in SYNTAXES:
            some = make_encoded(tmp_path / syntax, SIZES, (syntax,))
            lengths = ("--max-send-pdu", str(pdu_length), "-pdu", str(pdu_length))
            titles = ("-aet", "CT1", "-aec", "CLARA", LOOPBACK, str(receiver.port))
            sent = run(tool("storescu"), "-nh", "-R", PROPOSE[syntax], *lengths, *titles, *some)
            assert sent.returncode == 0, sent.stderr
            files += some
        assert_all_there(receiver, files, data_set)


@pytest.mark.parametrize("pdu_length", [*PDU_LENGTHS, OUR_LONGEST])
def test_orthanc(tmp_path: Path, pdu_length: int) -> None:
    """It takes a new association for each transfer syntax that it comes to."""
    files = make_encoded(tmp_path / "files", SIZES, SYNTAXES)
    with (
        receiving(tmp_path / "spool", reject_unknown_sources=False, maximum_pdu_length=pdu_length) as receiver,
        orthanc(tmp_path / "orthanc", MaximumPduLength=min(pdu_length, THEIR_LONGEST)) as archive,
    ):
        assert archive.send(files, Peer("CLARA", LOOPBACK, receiver.port)) == len(files)
        assert_all_there(receiver, files, data_set)


@pytest.mark.parametrize("pdu_length", [*PDU_LENGTHS, OUR_LONGEST])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_gdcm(tmp_path: Path, pdu_length: int, syntax: str) -> None:
    """It sends PDUs as long as we take them."""
    files = make_encoded(tmp_path / "files", SIZES, (syntax,))
    with receiving(tmp_path / "spool", maximum_pdu_length=pdu_length) as receiver:
        titles = ("--aetitle", "CT1", "--call", "CLARA", LOOPBACK, str(receiver.port))
        run(tool("gdcmscu", "libgdcm-tools"), "--store", *titles, *files)  # 3.0.21 dies after it has released
        assert_all_there(receiver, files, data_set)


@pytest.fixture(scope="module")
def dicom_rs() -> Path:
    """dicom-rs's sender."""
    return programs.program("dicom_rs")


@pytest.mark.parametrize("pdu_length", [*PDU_LENGTHS, OUR_LONGEST])
def test_dicom_rs(tmp_path: Path, dicom_rs: Path, pdu_length: int) -> None:
    """It writes sequences anew, with lengths of its own."""
    files = make_encoded(tmp_path / "files", SIZES, SYNTAXES)
    with receiving(tmp_path / "spool", maximum_pdu_length=pdu_length) as receiver:
        titles = ("--calling-ae-title", "CT1", "--called-ae-title", "CLARA")
        options = ("--max-pdu-length", str(min(pdu_length, THEIR_LONGEST)), "--fail-first")
        sent = subprocess.run(
            [dicom_rs, *titles, *options, f"{LOOPBACK}:{receiver.port}", *files],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert_all_there(receiver, files, elements)
