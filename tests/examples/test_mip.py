"""The maximum-intensity projection: right values, right way up, valid objects, the same again when run again."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage
from support.example_pipelines import EXAMPLES, Conforms, FolderOf, Operator, values, volume

HEAD_CT = [f"dicomdirtests/98892001/CT5N/{name}" for name in ("2062", "2392", "2693", "3023", "3353")]


def test_each_view_holds_the_largest_value_along_its_rays(phantom: Path, operator: Operator) -> None:
    """Against an independent computation on the whole volume; coronal and sagittal views have the head on top."""
    run = operator("mip.py", phantom)
    assert (run.code, run.errors) == (0, "")
    axial, coronal, sagittal = (dcmread(file) for file in run.files)
    body = volume(phantom)
    np.testing.assert_array_equal(values(axial), body.max(axis=0))
    np.testing.assert_array_equal(values(coronal), body.max(axis=1)[::-1])
    np.testing.assert_array_equal(values(sagittal), body.max(axis=2)[::-1])
    assert [list(one.PixelSpacing) for one in (axial, coronal, sagittal)] == [[6.25, 6.25], [7.5, 6.25], [7.5, 6.25]]
    assert [list(one.PatientOrientation) for one in (axial, coronal, sagittal)] == [["L", "P"], ["L", "F"], ["P", "F"]]


def test_the_order_of_files_and_instance_numbers_does_not_matter(
    phantom: Path, tmp_path: Path, operator: Operator
) -> None:
    """Only positions tell where a slice lies."""
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    files = sorted(phantom.iterdir())
    for number, index in enumerate(np.random.default_rng(5).permutation(len(files))):
        dataset = dcmread(files[index])
        dataset.InstanceNumber = number
        dataset.save_as(shuffled / f"{number}.dcm")
    _, coronal, _ = operator("mip.py", shuffled).files
    np.testing.assert_array_equal(values(dcmread(coronal)), volume(phantom).max(axis=1)[::-1])


def test_results_are_valid_and_belong_to_the_patient_and_study(
    phantom: Path, operator: Operator, conforms: Conforms
) -> None:
    """A new series in the same study, which names every image it was made from."""
    sources = [dcmread(file) for file in phantom.iterdir()]
    files = operator("mip.py", phantom).files
    assert {conforms(file) for file in files} == {"SCImage"}
    results = [dcmread(file) for file in files]
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert {one[keyword].value for one in results} == {sources[0][keyword].value}
    assert {one.SOPClassUID for one in results} == {SecondaryCaptureImageStorage}
    assert len({one.SOPInstanceUID for one in results}) == 3
    assert len({one.SeriesInstanceUID for one in results} - {sources[0].SeriesInstanceUID}) == 1
    for one in results:
        named = {reference.ReferencedSOPInstanceUID for reference in one.SourceImageSequence}
        assert named == {source.SOPInstanceUID for source in sources}


def test_a_rerun_makes_the_same_bytes_and_another_job_other_objects(phantom: Path, operator: Operator) -> None:
    """The platform runs an operator again after it was killed; the PACS must not see twice as many objects."""
    first, again, other = (operator("mip.py", phantom, job=job) for job in ("job-1", "job-1", "job-2"))
    assert [file.read_bytes() for file in first.files] == [file.read_bytes() for file in again.files]
    uids = [{dcmread(file).SOPInstanceUID for file in run.files} for run in (first, other)]
    assert len(uids[0] | uids[1]) == 6


@pytest.mark.parametrize(
    ("names", "views"),
    [
        (["CT_small.dcm"], ["axial"]),
        (["MR_small.dcm"], ["axial"]),
        (["MR_small_RLE.dcm"], ["axial"]),
        (["MR_small_bigendian.dcm"], ["axial"]),
        (HEAD_CT, ["axial", "coronal", "sagittal"]),
    ],
)
def test_real_images(
    names: list[str], views: list[str], folder_of: FolderOf, operator: Operator, conforms: Conforms
) -> None:
    """CT and MR of real scanners, compressed ones too; several slices give all three views."""
    source = folder_of(*names)
    run = operator("mip.py", source)
    assert (run.code, run.errors) == (0, "")
    assert [file.stem.split("-")[-1] for file in run.files] == views
    assert [conforms(file) for file in run.files] == ["SCImage"] * len(views)
    if len(names) > 1:
        body = volume(source)
        np.testing.assert_array_equal(values(dcmread(run.files[0])), body.max(axis=0))
        np.testing.assert_array_equal(values(dcmread(run.files[1])), body.max(axis=1)[::-1])
    if names[0].startswith("MR"):
        plain = values(dcmread(Path(folder_of("MR_small.dcm")) / "dcm" / "0.dcm"))
        np.testing.assert_array_equal(values(dcmread(run.files[0])), plain)


def test_the_largest_series_is_taken(phantom: Path, folder_of: FolderOf, operator: Operator) -> None:
    """Other series, other kinds of objects and files that are not DICOM do not disturb."""
    source = folder_of("MR_small.dcm", "rtplan.dcm", "reportsi.dcm")
    shutil.copytree(phantom, source / "more")
    (source / "notes.txt").write_text("not DICOM")
    axial = dcmread(operator("mip.py", source).files[0])
    assert axial.StudyInstanceUID == dcmread(next(phantom.iterdir())).StudyInstanceUID
    assert len(axial.SourceImageSequence) == 40


def test_slices_that_stand_unevenly_are_projected_along_the_stack_only(
    phantom: Path, tmp_path: Path, operator: Operator
) -> None:
    """With a slice missing, the height of a coronal view's pixels would be a lie."""
    gapped = tmp_path / "gapped"
    shutil.copytree(phantom, gapped)
    (gapped / "ct-1-0017.dcm").unlink()
    files = operator("mip.py", gapped).files
    assert [file.name for file in files] == ["mip-1-axial.dcm"]
    np.testing.assert_array_equal(values(dcmread(files[0])), volume(gapped).max(axis=0))


def test_padding_does_not_shine(phantom: Path, tmp_path: Path, operator: Operator) -> None:
    """Pixels without data may hold any value, the highest as well."""
    padded = tmp_path / "padded"
    padded.mkdir()
    for file in phantom.iterdir():
        dataset = dcmread(file)
        pixels = dataset.pixel_array.copy()
        pixels[:4] = 4095
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 4095)
        dataset.save_as(padded / file.name)
    axial = values(dcmread(operator("mip.py", padded).files[0]))
    assert axial[:4].max() < -800
    np.testing.assert_array_equal(axial[4:], volume(phantom).max(axis=0)[4:])


@pytest.mark.parametrize("names", [[], ["rtplan.dcm", "reportsi.dcm"]])
def test_nothing_usable_is_one_clear_line(names: list[str], folder_of: FolderOf, operator: Operator) -> None:
    """The line becomes the job's message."""
    run = operator("mip.py", folder_of(*names))
    assert (run.code, run.files) == (3, [])
    assert run.errors == (
        "mip: the input holds no single-frame CT or MR image with position, orientation and spacing\n"
    )


def test_damaged_and_undecodable_pixels_are_told_without_naming_the_patient(
    tmp_path: Path, folder_of: FolderOf, operator: Operator
) -> None:
    """What went wrong in people's words, with nothing from the patient's record."""
    run = operator("mip.py", folder_of("MR_truncated.dcm"))
    assert (run.code, run.errors) == (3, "mip: an image's pixel data cannot be read: it is damaged or incomplete\n")
    dataset = dcmread(folder_of("MR_small_RLE.dcm") / "dcm" / "0.dcm")
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit  # whose pixels these are not
    strange = tmp_path / "strange"
    strange.mkdir()
    dataset.save_as(strange / "0.dcm")
    run = operator("mip.py", strange)
    assert (run.code, run.files) == (3, [])
    assert "cannot be decoded: JPEG Baseline" in run.errors
    assert run.errors.count("\n") == 1
    assert str(dataset.PatientName) not in run.errors


def test_a_missing_folder_variable_is_a_wrong_use(tmp_path: Path) -> None:
    """Run by hand without the two variables, the operator says which is missing."""
    command = [sys.executable, str(EXAMPLES / "pipelines" / "mip.py")]
    ended = subprocess.run(command, env={}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "mip: the environment variable MONAI_INPUTPATH is not set\n")
