"""Runs the example operators as the platform does: each in a process of its own, told its folders by environment."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

EXAMPLES = Path(__file__).parents[2] / "examples"

FolderOf = Callable[..., Path]
Conforms = Callable[[Path], str]


@dataclass(frozen=True)
class Run:
    """How an operator ended, and what it made."""

    code: int
    errors: str
    files: list[Path]


class Operator:
    """Runs operators of examples/pipelines, each into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def __call__(self, script: str, source: Path, *options: str, job: str = "job-1") -> Run:
        """Run `script` on the files in `source`."""
        output = self._folder / f"run-{next(self._numbers)}"
        output.mkdir(parents=True)
        ended = subprocess.run(
            [sys.executable, str(EXAMPLES / "pipelines" / script), *options],
            env={
                "PATH": os.environ["PATH"],
                "MONAI_INPUTPATH": str(source),
                "MONAI_OUTPUTPATH": str(output),
                "CLARA_JOB_ID": job,
            },
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Run(ended.returncode, ended.stderr, sorted(output.rglob("*.dcm")))


def values(dataset: Dataset) -> NDArray[np.float64]:
    """Pixels in the modality's units, read without any of the code under test."""
    stored = np.frombuffer(dataset.PixelData, dtype="<i2" if dataset.PixelRepresentation else "<u2")
    stored = stored[: dataset.Rows * dataset.Columns].reshape(dataset.Rows, dataset.Columns)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    result: NDArray[np.float64] = stored.astype(np.float64) * slope + intercept
    return result


def volume(folder: Path) -> NDArray[np.float64]:
    """Slices from feet to head."""
    slices = [dcmread(file) for file in folder.rglob("*.dcm")]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    return np.stack([values(one) for one in slices])
