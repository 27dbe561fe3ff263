"""Fixtures for the example pipelines, the phantom and the pictures."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom.data
import pytest
from support.example_pipelines import EXAMPLES, Conforms, FolderOf, Operator

for place in ("", "pipelines", "studies"):  # the scripts import their neighbours, as they do when run
    sys.path.append(str(EXAMPLES / place))

from make_ct import make_study  # noqa: E402  (needs the line above)

PYDICOM_FILES = Path(pydicom.data.__path__[0]) / "test_files"


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """Run one of examples/pipelines on a folder."""
    return Operator(tmp_path / "runs")


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study; its slices are further apart than its pixels."""
    folder = tmp_path_factory.mktemp("phantom")
    make_study(folder, slices=40, size=64)
    return folder


@pytest.fixture
def folder_of(tmp_path: Path) -> FolderOf:
    """A folder with copies of files of the pydicom package."""

    def copy(*names: str) -> Path:
        folder = tmp_path / f"payload-{len(list(tmp_path.iterdir()))}"
        (folder / "dcm").mkdir(parents=True)
        for number, name in enumerate(names):
            shutil.copy2(PYDICOM_FILES / name, folder / "dcm" / f"{number}.dcm")
        return folder

    return copy


@pytest.fixture(scope="session")
def conforms() -> Conforms:
    """What kind of object dciodvfy takes a file for; fails on any error, and when dcmdump cannot read it."""
    if shutil.which("dciodvfy") is None or shutil.which("dcmdump") is None:
        message = "dciodvfy and dcmdump are needed: apt-get install dicom3tools dcmtk"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

    def check(file: Path) -> str:
        ended = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        report = ended.stderr + ended.stdout
        assert "Error" not in report, report
        subprocess.run(["dcmdump", "-q", str(file)], capture_output=True, check=True)
        return report.splitlines()[0]

    return check
