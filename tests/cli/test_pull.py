"""``clara pull dicom``: the chart, what an edited file may count on, and that ``start`` uses its settings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clara_dicom_adapter.cli import chart
from clara_dicom_adapter.cli.app import run
from clara_dicom_adapter.cli.defaults import passed_over
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.errors import AdapterError

IN_THE_CHECKOUT = Path(__file__).parents[2] / "deploy" / "chart"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".clara" / "charts" / "dicom-adapter"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A chart with the paths that the documents name."""
    for name in ("Chart.yaml", "values.yaml", "files/appsettings.json", "templates/receiver.yaml", ".helmignore"):
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"first {name}\n")
    return tmp_path / "source"


def names(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def test_an_edited_file_stays_and_the_others_are_brought_up_to_date(source: Path, home: Path) -> None:
    assert len(chart.pull(source, home).written) == 5
    again = chart.pull(source, home)
    assert (again.written, again.kept, len(again.unchanged)) == ([], [], 5)
    (home / "values.yaml").write_text("edited\n")
    (home / "files" / "appsettings.json").unlink()
    for file in source.rglob("*.*"):
        file.write_text("second\n")
    third = chart.pull(source, home)
    assert names(third.kept, home) == ["values.yaml"]
    assert (home / "values.yaml").read_text() == "edited\n"
    assert (home / "files" / "appsettings.json").read_text() == "second\n"
    fourth = chart.pull(source, home)
    assert names(fourth.kept, home) == ["values.yaml"], "it is still edited"


def test_a_file_that_was_there_before_the_first_pull_is_taken_for_edited(source: Path, home: Path) -> None:
    (home / "files").mkdir(parents=True)
    (home / "files" / "appsettings.json").write_text("mine\n")
    assert names(chart.pull(source, home).kept, home) == ["files/appsettings.json"]
    assert (home / "files" / "appsettings.json").read_text() == "mine\n"


def test_a_folder_that_cannot_be_written_is_told(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterError, match="cannot be written"):
        chart.pull(source, tmp_path / "file" / "chart")


@pytest.mark.skipif(not IN_THE_CHECKOUT.exists(), reason="no chart in this checkout")
def test_the_command_writes_the_paths_that_the_documents_name(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pull", "dicom"]) == 0
    assert str(home) in capsys.readouterr().out
    for name in ("Chart.yaml", "values.yaml", "files/appsettings.json"):
        assert (home / name).read_bytes() == (IN_THE_CHECKOUT / name).read_bytes()
    assert not (home / "templates" / "values.yaml").exists(), "it would break the chart"
    (home / "values.yaml").write_text("edited")
    assert run(["pull", "dicom"]) == 0
    assert f"{home / 'values.yaml'} was edited and stays" in capsys.readouterr().err
    assert run(["pull", "dicom", "--to", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "values.yaml").read_bytes() == (IN_THE_CHECKOUT / "values.yaml").read_bytes()


def test_start_takes_the_pulled_settings_unless_others_are_named(home: Path, tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other.json"
    data.mkdir()
    other.write_text("{}")
    assert Place(data).as_started().config is None
    (home / "files").mkdir(parents=True)
    old = home / "files" / "dicom-server-config.yaml"
    old.write_text("dicom: {}\n")
    assert Place(data).as_started().config == old
    pulled = home / "files" / "appsettings.json"
    pulled.write_text("{}")
    assert Place(data).as_started().config == pulled
    assert Place(data, other).as_started().config == other
    (data / "appsettings.json").write_text("{}")
    assert Place(data).as_started().config is None, "the data folder's own"


def test_a_file_of_0_6_beside_the_pulled_settings_is_not_passed_over_in_silence(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A site that comes from 0.6 has one there, as seed 001 says."""
    (home / "files").mkdir(parents=True)
    old = home / "files" / "dicom-server-config.yaml"
    old.write_text("dicom: {}\n")
    assert run(["pull", "dicom"]) == 0
    assert f"`clara dicom config convert {old}`" in capsys.readouterr().err
    data = tmp_path / "data"
    data.mkdir()
    assert passed_over(Place(data).as_started().config) == old
    (home / "files" / "appsettings.json").unlink()
    assert passed_over(Place(data).as_started().config) is None, "it is read"


def test_start_reads_them(home: Path, tmp_path: Path) -> None:
    (home / "files").mkdir(parents=True)
    wrong = home / "files" / "appsettings.json"
    wrong.write_text(json.dumps({"DicomAdapter": {"dicom": {"scp": {"port": 99999}}}}))
    command = [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", "start", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"file {wrong}" in done.stderr
