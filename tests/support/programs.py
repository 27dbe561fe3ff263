"""Programs that are built on first use, some for minutes: found before the time limit of the test that needs them.

``python -m support.programs`` builds all that are missing, in the order in which the tests need them; CI does so beside
the checks. Whoever needs one that is just being built waits for it, and says so.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from receivers import dicom_rs

from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import building, finding
from clara_dicom_adapter.temporal.building import NotBuilt
from support import servers

_FIND: Final[Mapping[str, Callable[[], Path]]] = {
    "temporal_executable": finding.find,
    "dicom_rs": partial(dicom_rs.built, "dicom-storescu"),
    "compose": servers.find_compose,
    "helm": servers.find_helm,
    "cluster": servers.find_api_server,
}
"""Fixtures, and what finds or builds the program of each."""
_found: dict[str, Path | str] = {}


def wanted(fixtures: Iterable[str]) -> list[str]:
    """Those of a test's fixtures that need a program which has not been looked for."""
    return [fixture for fixture in fixtures if fixture in _FIND and fixture not in _found]


def look_for(fixture: str) -> None:
    """Find or build the program of a fixture."""
    try:
        _found[fixture] = _FIND[fixture]()
    except (NotBuilt, TemporalUnavailable) as error:
        _found[fixture] = str(error)


def program(fixture: str) -> Path:
    """The program of a fixture; without it the test is skipped, and fails in CI."""
    found = _found[fixture]
    if isinstance(found, Path):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(found)
    pytest.skip(found)


if __name__ == "__main__":
    for each in _FIND:
        look_for(each)
        building.to_stderr(f"{each}: {_found[each]}")
    if any(isinstance(each, str) for each in _found.values()):
        sys.exit("not every program that the tests need could be built")
