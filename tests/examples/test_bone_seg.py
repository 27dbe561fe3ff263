"""The bone segmentation: the right voxels, in place, as a valid object, the same again when run again."""

from pathlib import Path

import numpy as np
import pytest
from components import without_small_pieces
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage
from support.example_pipelines import Conforms, FolderOf, Operator, values, volume


def segmented(result: Dataset, folder: Path) -> NDArray[np.bool_]:
    """The mask as a volume from feet to head, put together by the images that the frames refer to."""
    sources = sorted(
        (dcmread(file) for file in folder.rglob("*.dcm")), key=lambda one: float(one.ImagePositionPatient[2])
    )
    places = {str(one.SOPInstanceUID): index for index, one in enumerate(sources)}
    mask = np.zeros((len(sources), result.Rows, result.Columns), dtype=bool)
    frames = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    for frame, groups in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        index = places[str(source.ReferencedSOPInstanceUID)]
        mask[index] = frame
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        assert list(position) == pytest.approx(list(sources[index].ImagePositionPatient))
    return mask


def test_all_that_is_dense_enough_is_segmented_where_it_is(
    phantom: Path, operator: Operator, conforms: Conforms
) -> None:
    """Without removal of small pieces the mask is the comparison itself."""
    run = operator("bone_seg.py", phantom, "--threshold", "250", "--smallest", "0")
    assert (run.code, run.errors, len(run.files)) == (0, "", 1)
    assert conforms(run.files[0]) == "Segmentation"
    expected = volume(phantom) >= 250
    assert expected.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(segmented(dcmread(run.files[0]), phantom), expected)


def test_small_pieces_are_left_out(phantom: Path, tmp_path: Path, operator: Operator) -> None:
    """A single bright voxel in the air is noise."""
    speckled = tmp_path / "speckled"
    speckled.mkdir()
    for number, file in enumerate(sorted(phantom.iterdir())):
        dataset = dcmread(file)
        pixels = dataset.pixel_array.copy()
        if number == 20:
            pixels[2, 2] = 3000
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(speckled / file.name)
    volume_of_two = str(2 * 6.25 * 6.25 * 7.5)
    mask = segmented(dcmread(operator("bone_seg.py", speckled, "--smallest", volume_of_two).files[0]), speckled)
    kept = segmented(dcmread(operator("bone_seg.py", speckled, "--smallest", "1").files[0]), speckled)
    assert kept[:, 2, 2].sum() == 1
    assert mask[:, 2, 2].sum() == 0
    assert mask.sum() > 0.95 * kept.sum()


def test_the_segment_says_what_it_is_and_whose(phantom: Path, operator: Operator) -> None:
    """Coded as bone, in the patient's study and frame of reference, in a series of its own."""
    source = dcmread(next(phantom.iterdir()))
    result = dcmread(operator("bone_seg.py", phantom).files[0])
    assert result.SOPClassUID == SegmentationStorage
    assert result.SegmentationType == "BINARY"
    segment = result.SegmentSequence[0]
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("272673000", "SCT")
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "FrameOfReferenceUID"):
        assert result[keyword].value == source[keyword].value
    assert result.SeriesInstanceUID != source.SeriesInstanceUID
    named = {one.ReferencedSOPInstanceUID for one in result.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == {dcmread(file).SOPInstanceUID for file in phantom.iterdir()}


def test_a_rerun_makes_the_same_bytes_and_another_job_another_object(phantom: Path, operator: Operator) -> None:
    """Neither chance nor the clock gets into a result, other arguments do."""
    first, again, other = (operator("bone_seg.py", phantom, job=job).files[0] for job in ("a", "a", "b"))
    harder = operator("bone_seg.py", phantom, "--threshold", "300", job="a").files[0]
    assert first.read_bytes() == again.read_bytes()
    assert len({dcmread(file).SOPInstanceUID for file in (first, other, harder)}) == 3
    assert len({dcmread(file).SeriesInstanceUID for file in (first, other, harder)}) == 3


@pytest.mark.parametrize("threshold", ["200", "5000"])
def test_a_real_ct_image(threshold: str, folder_of: FolderOf, operator: Operator, conforms: Conforms) -> None:
    """With bone, and with none found: then the object says so, with an empty frame."""
    source = folder_of("CT_small.dcm")
    run = operator("bone_seg.py", source, "--threshold", threshold, "--smallest", "0")
    assert (run.code, run.errors) == (0, "")
    assert conforms(run.files[0]) == "Segmentation"
    expected = values(dcmread(source / "dcm" / "0.dcm")) >= float(threshold)
    np.testing.assert_array_equal(segmented(dcmread(run.files[0]), source)[0], expected)


def test_mr_has_no_hounsfield_units(folder_of: FolderOf, operator: Operator) -> None:
    """A threshold in HU means nothing there."""
    run = operator("bone_seg.py", folder_of("MR_small.dcm"))
    assert (run.code, run.files) == (3, [])
    assert run.errors == ("bone-seg: the input holds no single-frame CT image with position, orientation and spacing\n")


@pytest.mark.parametrize("seed", range(6))
def test_pieces_are_those_that_a_flood_fill_finds(seed: int) -> None:
    """Against the plainest way there is, on masks that touch all edges."""
    random = np.random.default_rng(seed)
    mask = random.random((7, 9, 11)) < 0.35
    smallest = int(random.integers(2, 9))
    np.testing.assert_array_equal(without_small_pieces(mask, smallest), flood_filled(mask, smallest))


def flood_filled(mask: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    """Voxel by voxel from neighbour to neighbour."""
    left = {(int(z), int(y), int(x)) for z, y, x in np.argwhere(mask)}
    kept = np.zeros_like(mask)
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            z, y, x = edge.pop()
            piece.add((z, y, x))
            around = {(z - 1, y, x), (z + 1, y, x), (z, y - 1, x), (z, y + 1, x), (z, y, x - 1), (z, y, x + 1)} & left
            left -= around
            edge.extend(around)
        if len(piece) >= smallest:
            for place in piece:
                kept[place] = True
    return kept
