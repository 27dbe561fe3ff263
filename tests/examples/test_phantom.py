"""The phantom study and the pictures of it."""

from pathlib import Path

import numpy as np
import pictures
from make_ct import make_study
from PIL import Image
from pydicom import dcmread
from support.example_pipelines import Conforms, Operator, volume


def test_a_study_is_valid_and_hangs_together(phantom: Path, conforms: Conforms) -> None:
    """One study, one series, even gaps, a patient that nobody takes for a real one."""
    files = sorted(phantom.iterdir())
    assert [conforms(file) for file in files[::13]] == ["CTImage"] * len(files[::13])
    slices = [dcmread(file) for file in files]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({one[keyword].value for one in slices}) == 1
    assert len({one.SOPInstanceUID for one in slices}) == len(slices)
    heights = [float(one.ImagePositionPatient[2]) for one in slices]
    assert np.allclose(np.diff(heights), -7.5)
    assert str(slices[0].PatientName).startswith("Phantom^")


def test_it_has_air_lungs_soft_tissue_and_bone(phantom: Path) -> None:
    """Enough of each for a pipeline to find."""
    body = volume(phantom)
    for low, high, share in ((-1024, -980, 0.3), (-900, -780, 0.05), (0, 100, 0.1), (300, 1500, 0.01)):
        assert ((body >= low) & (body < high)).mean() > share


def test_same_seed_same_study_and_another_seed_another_patient(tmp_path: Path) -> None:
    """So that a demo can be repeated, and can send several patients."""
    first, again, other = (make_study(tmp_path / name, 2, 32, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]
    heads = [dcmread(files[0]) for files in (first, other)]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert len({str(one[keyword].value) for one in heads}) == 2


def test_pictures_of_input_and_results(phantom: Path, tmp_path: Path, operator: Operator) -> None:
    """One per series and result; names and pictures are free of patient attributes, bone is drawn in colour."""
    results = tmp_path / "results"
    results.mkdir()
    for script in ("mip.py", "bone_seg.py"):
        for file in operator(script, phantom).files:
            file.rename(results / file.name)
    files = pictures.render(phantom, results, tmp_path / "png")
    names = ["01-input-ct", "02-result-segmentation", "03-result-ct", "04-result-ct", "05-result-ct"]
    assert [file.stem for file in files] == names
    drawn = [np.asarray(Image.open(file)).astype(int) for file in files]
    assert drawn[0].shape == (512, 512)
    assert drawn[3].shape == (384, 512)  # 300 mm high and 400 mm wide
    assert all(one.max() > 150 and one.min() < 20 for one in drawn)
    red, _, blue = np.moveaxis(drawn[1], 2, 0)
    assert 0.01 < (red - blue > 60).mean() < 0.2
    assert (drawn[0][:40] == 0).all()
