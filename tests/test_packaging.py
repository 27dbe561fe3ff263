"""The package as it is installed: every room is in the wheel, and its commands can be found."""

import importlib.metadata
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


def test_every_package_is_listed() -> None:
    """The list in pyproject.toml makes a checkout without links fail, but must be kept by hand."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    names: set[str] = set()
    rooms = [SOURCE / "clara_dicom_adapter"]
    while rooms:
        room = rooms.pop()
        if (room / "__init__.py").exists():
            names.add(".".join(room.relative_to(SOURCE).parts))
            rooms += [each for each in room.iterdir() if each.is_dir()]  # a link to a folder is one, too
    assert sorted(listed) == sorted(names)


def test_every_room_is_a_relative_link_into_this_repository() -> None:
    links = [each for each in (SOURCE / "clara_dicom_adapter").iterdir() if each.is_symlink()]
    assert links
    for link in links:
        assert not link.readlink().is_absolute()
        assert link.resolve() == ROOT / link.name


def test_commands_and_processors_can_be_found() -> None:
    distribution = importlib.metadata.distribution("clara-dicom-adapter")
    points = {(point.group, point.name): point for point in distribution.entry_points}
    assert ("console_scripts", "clara") in points
    assert ("clara_dicom_adapter.job_processors", "ae-title") in points
    for point in points.values():
        assert callable(point.load())
