"""The files of the container image and of compose, as far as they can be judged without a container engine."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from support.chart import CHART

from clara_dicom_adapter.cli.app import app
from clara_dicom_adapter.configuration import reader
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import ConfigurationInvalid

DEPLOY = CHART.parent
DOCKERFILE = DEPLOY / "Dockerfile"
RUN = re.compile(r"^RUN (.*)$", re.MULTILINE)
STEP = re.compile(r"image\.sh (\w+)")


def commands() -> dict[str, Any]:
    return dict(typer.main.get_command(app).commands["dicom"].commands)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def project(compose: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The compose file as docker compose understands it."""
    done = subprocess.run([compose, DEPLOY / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout))


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_step_of_the_image_is_one_that_ci_runs() -> None:
    """CI runs them in an empty folder tree, because it has no container engine."""
    runs = RUN.findall(DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " "))
    assert all(STEP.search(command) for run in runs for command in run.split("&&"))
    in_image = STEP.findall("\n".join(runs))
    in_ci = STEP.findall((DEPLOY.parent / ".ci" / "run").read_text(encoding="utf-8"))
    assert sorted(set(in_image)) == sorted(set(in_ci)) == ["folders", "install", "wheel"]


def test_the_image_runs_as_the_user_that_the_chart_names() -> None:
    helpers = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    [user] = re.findall(r"^USER (\d+):\1$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert f"runAsUser: {user}" in helpers
    assert f"USER_ID={user}" in (DEPLOY / "image.sh").read_text(encoding="utf-8")


def test_the_folders_are_made_where_they_are_asked_for(tmp_path: Path) -> None:
    subprocess.run([DEPLOY / "image.sh", "folders", tmp_path], check=True)
    assert {each.name for each in tmp_path.iterdir()} == {"data", "payloads", "database"}


def test_the_compose_file_tells_the_adapter_what_it_understands(project: dict[str, Any], tmp_path: Path) -> None:
    adapter = project["services"]["adapter"]
    told = dict(adapter["environment"])
    try:
        settings = reader.load(None, DataFolder(tmp_path), told)
    except ConfigurationInvalid as error:
        pytest.fail(str(error))
    published = {port["target"] for port in adapter["ports"]}
    assert published == {settings.dicom.scp.port, settings.api.port}
    service, _, _ = str(settings.services.temporal.address).partition(":")
    assert service in project["services"]
    assert {each["target"] for each in adapter["volumes"]} >= {"/data", "/payloads", "/database"}


def test_a_slip_in_the_compose_file_would_be_told(compose: Path, tmp_path: Path) -> None:
    """So that the tests above can fail."""
    file = tmp_path / "compose.yaml"
    file.write_text((DEPLOY / "compose.yaml").read_text(encoding="utf-8").replace("cap_drop:", "cap_dorp:"))
    done = subprocess.run([compose, file], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cap_dorp" in done.stderr


def test_the_images_command_exists() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["clara"]' in text
    assert 'CMD ["dicom", "start"]' in text
    assert "start" in commands()
