"""A few attributes from the head of any file, and never an exception for what is in it."""

import io
import random
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from clara_dicom_adapter.dicom import part10, scan
from clara_dicom_adapter.dicom.head import _ALWAYS as ALWAYS
from clara_dicom_adapter.dicom.head import Head, _head, _read_by_pydicom, parse_tag, read_head

CT = "1.2.840.10008.5.1.4.1.1.2"
TEST_FILES = sorted(
    path for path in (Path(pydicom.__file__).parent / "data" / "test_files").rglob("*") if path.is_file()
)


def encoded(dataset: Dataset, transfer_syntax: str) -> bytes:
    """A part-10 file with this dataset."""
    stream = DicomBytesIO()
    stream.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    stream.is_little_endian = transfer_syntax != ExplicitVRBigEndian
    write_dataset(stream, dataset)
    body = stream.getvalue()
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = deflater.compress(body) + deflater.flush()
    return part10.header(CT, "1.2.3.1.1", transfer_syntax, "MODALITY") + body


def example() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = "1.2.3.1.1"
    dataset.PatientName = "M\u00fcller^Anna"
    dataset.PatientID = ""
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.InstanceNumber = 7
    return dataset


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEG2000Lossless,
        "1.2.3.4.5.6",
    ],
)
def test_every_transfer_syntax_is_read(transfer_syntax: str, tmp_path: Path) -> None:
    content = encoded(example(), transfer_syntax)
    path = tmp_path / "one.dcm"
    path.write_bytes(content)
    tags = ("0010,0010", "(0010,0020)", "00080008", "0020,0013", "0008,0050")
    head = read_head(path, tags)
    assert head == Head(
        readable=True,
        sop_class_uid=CT,
        sop_instance_uid="1.2.3.1.1",
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        values={
            "0010,0010": ("M\u00fcller^Anna",),
            "(0010,0020)": (),
            "00080008": ("ORIGINAL", "PRIMARY"),
            "0020,0013": ("7",),
            "0008,0050": (),
        },
    )
    assert read_head(content, tags) == head


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.name)
def test_real_and_odd_files_are_read_as_pydicom_reads_them(path: Path) -> None:
    head = read_head(path, ("0010,0020",))
    try:
        part10.read_meta(path)
        theirs = pydicom.dcmread(path, stop_before_pixels=True)
    except Exception:
        assert not head.readable
        return
    assert (head.sop_class_uid, head.sop_instance_uid, head.study_instance_uid, head.series_instance_uid) == tuple(
        str(theirs.get(name) or "")
        for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    )
    assert head.values["0010,0020"] == ((str(theirs.PatientID).strip(),) if theirs.get("PatientID") else ())


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.name)
def test_the_scanner_says_what_pydicom_says_or_nothing(path: Path) -> None:
    tags = ("0010,0020", "0008,0050", "0008,0060", "0008,0008", "0020,0010", "0008,1140", "0020,0013", "0040,0275")
    wanted = {text: parse_tag(text) for text in tags}
    every = {*ALWAYS, *wanted.values()}
    for some in (every, set(ALWAYS), *({*ALWAYS, tag} for tag in wanted.values())):
        first = path.read_bytes()[: scan.FIRST_BYTES]
        found = scan.scan(first, some, whole=len(first) < scan.FIRST_BYTES)
        asked = {text: tag for text, tag in wanted.items() if tag in some}
        if found is not None:
            assert _head({tag: found.get(tag, ()) for tag in some}, asked) == _read_by_pydicom(path, asked, some)


def test_ordinary_files_are_scanned() -> None:
    """What modalities send is not left to the slow way."""
    names = (
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "JPEG2000.dcm",
        "rtplan.dcm",
        "examples_rgb_color.dcm",
    )
    for path in TEST_FILES:
        if path.name in names:
            first = path.read_bytes()[: scan.FIRST_BYTES]
            found = scan.scan(first, set(ALWAYS), whole=len(first) < scan.FIRST_BYTES)
            assert found is not None, path.name
            assert set(found) >= set(ALWAYS) - {0x0008_0005}


TEXTS = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=20)


@st.composite
def datasets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    """Datasets with what may be in the way of the head, and with heads that may be odd."""
    dataset = Dataset()
    if draw(st.booleans()):
        dataset.SpecificCharacterSet = draw(st.sampled_from(["ISO_IR 100", "ISO_IR 192", "ISO_IR 13", "", "ISO_IR 6"]))
    uid = st.text(alphabet="0123456789. ", max_size=20)
    for tag in ALWAYS[1:]:
        if draw(st.integers(0, 5)):
            dataset.add_new(tag, "UI", draw(uid))
    for tag, vr in ((0x00080008, "CS"), (0x00080050, "SH"), (0x00100020, "LO"), (0x00081030, "LO"), (0x00091001, "UN")):
        if draw(st.booleans()):
            text = draw(TEXTS)
            dataset.add_new(tag, vr, text if vr != "UN" else text.encode("latin-1").ljust(20))
    if depth < 3 and draw(st.booleans()):
        dataset.add_new(0x00081140, "SQ", draw(st.lists(datasets(depth=depth + 1), max_size=2)))
        dataset[0x00081140].is_undefined_length = draw(st.booleans())
        for item in dataset[0x00081140].value:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    return dataset


@given(
    datasets(),
    st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
    st.integers(0, 400),
    st.integers(-8, 255),
)
@settings(max_examples=300, deadline=None)
def test_any_dataset_whole_cut_or_damaged_is_scanned_as_pydicom_reads_it(
    dataset: Dataset, syntax: str, cut: int, damage: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content = bytearray(encoded(dataset, syntax))
        except UnicodeEncodeError:
            return
    wanted = {text: parse_tag(text) for text in ("0010,0020", "0008,0050", "0008,0008")}
    every = {*ALWAYS, *wanted.values()}
    if damage >= 0:
        content[min(400 + cut, len(content) - 1)] = damage
    elif damage < -4:
        del content[len(content) - cut % 200 :]
    found = scan.scan(bytes(content), every, whole=True)
    if found is not None:
        theirs = _read_by_pydicom(bytes(content), wanted, every)
        # damage within a sequence, which we only step over, may keep pydicom from reading anything
        nothing = Head(readable=False, values=dict.fromkeys(wanted, ()))
        assert theirs in (_head({tag: found.get(tag, ()) for tag in every}, wanted), nothing)


def test_an_object_that_is_not_identified_is_flagged_and_still_read() -> None:
    dataset = example()
    del dataset.StudyInstanceUID
    head = read_head(encoded(dataset, ExplicitVRLittleEndian), ("0020,0013",))
    assert not head.readable
    assert head.series_instance_uid == "1.2.3.1"
    assert head.values == {"0020,0013": ("7",)}


def test_damage_never_raises_and_no_value_gets_into_a_warning() -> None:
    """Some thousand cut, flipped and overwritten files; the seed is fixed so that a failure can be looked at."""
    chance = random.Random(3)
    whole = [
        encoded(example(), syntax)
        for syntax in (
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
        )
    ]
    flagged = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module=r"pydicom\.")  # as the module does for every process
        for _ in range(2500):
            content = bytearray(chance.choice(whole))
            for _ in range(chance.randint(1, 6)):
                content[chance.randrange(132, len(content))] = chance.randrange(256)
            del content[chance.choice((len(content), chance.randrange(132, len(content)))) :]
            flagged += not read_head(bytes(content), ("0010,0020", "0040,0275")).readable
    assert flagged > 500
    assert [str(warning.message) for warning in caught] == []


def test_memory_does_not_grow_with_the_object(tmp_path: Path) -> None:
    """A private element of 64 MB before the study, 64 MB of pixels behind it, and a UID that claims 64 MB."""
    big = bytes(64 << 20)

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        if vr in {b"OB", b"UN"}:
            return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    header = part10.header(CT, "1.2.3.1.1", ExplicitVRLittleEndian, "A")
    uids = element(0x20, 0x0D, b"UI", b"1.2.3\0") + element(0x20, 0x0E, b"UI", b"1.2.3.1\0")
    instance = element(0x08, 0x18, b"UI", b"1.2.3.1.1\0")
    path = tmp_path / "big.dcm"
    path.write_bytes(header + instance + element(0x09, 0x1001, b"UN", big) + uids + element(0x7FE0, 0x10, b"OB", big))
    claims = tmp_path / "claims.dcm"
    claims.write_bytes(header + instance + element(0x20, 0x0D, b"UN", big))
    tracemalloc.start()
    try:
        assert read_head(path).readable
        assert not read_head(claims).readable
        assert read_head(path, ("7FE0,0010",)).values == {"7FE0,0010": ()}
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_what_inflates_without_end_is_read_in_bounds() -> None:
    dataset = example()
    dataset.add_new(0x0009_0010, "LO", "ACME")
    dataset.add_new(0x0009_1001, "OB", bytes(64 << 20))
    content = encoded(dataset, DeflatedExplicitVRLittleEndian)
    assert len(content) < 1 << 20
    tracemalloc.start()
    try:
        assert read_head(content).sop_instance_uid == "1.2.3.1.1"
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_tag_is_a_tag() -> None:
    assert parse_tag("0020,000D") == parse_tag("(0020,000d)") == parse_tag("0020000D") == 0x0020_000D
    for text in ("", "0020", "StudyInstanceUID", "0020,000X", "0020,000D1"):
        with pytest.raises(ValueError, match="not a DICOM tag"):
            parse_tag(text)


def test_a_file_that_is_not_there_is_not_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_head(tmp_path / "absent")
    assert not read_head(io.BytesIO(b"x").getvalue()).readable
