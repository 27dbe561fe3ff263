"""Which server program is used, with small scripts in the place of `temporal` and `go`."""

import multiprocessing
import os
from pathlib import Path

import pytest

from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import finding

WORKS = "#!/bin/sh\necho temporal version 1\n"
BROKEN = "#!/bin/sh\nexit 1\n"
GO = """#!/bin/sh
if [ "$1" = env ]; then echo {version}; exit; fi
echo "$@" "$GOFLAGS" >> {journal}
{install}
"""
INSTALLS = (
    'mkdir -p "$GOBIN"; printf "#!/bin/sh\\necho temporal version 2\\n" > "$GOBIN/temporal"; chmod +x "$GOBIN/temporal"'
)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


async def no_download(_cache: Path) -> None:
    raise RuntimeError("error sending request")


async def a_download(cache: Path) -> None:
    script(cache / "temporal-sdk-python-1", WORKS)


class Machine:
    """A PATH with what a test puts there, and an empty cache folder."""

    def __init__(self, root: Path) -> None:
        self.programs = root / "bin"
        self.journal = root / "journal"
        self.environ = {"PATH": f"{self.programs}{os.pathsep}/usr/bin{os.pathsep}/bin", "XDG_CACHE_HOME": str(root)}
        self.cache = finding.cache_folder(self.environ)
        self.heard: list[str] = []

    def go(self, version: str = "go1.26.8", install: str = INSTALLS) -> None:
        script(self.programs / "go", GO.format(version=version, journal=self.journal, install=install))

    def find(self) -> Path:
        return finding.find(self.heard.append, self.environ, no_download)

    def find_with_download(self) -> Path:
        return finding.find(self.heard.append, self.environ, a_download)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_program_on_path_is_used_before_anything_else(machine: Machine) -> None:
    on_path = script(machine.programs / "temporal", WORKS)
    script(machine.cache / "temporal", WORKS)
    assert machine.find_with_download() == on_path


def test_a_program_on_path_that_does_not_run_is_passed_over(machine: Machine) -> None:
    script(machine.programs / "temporal", BROKEN)
    assert machine.find_with_download() == machine.cache / "temporal-sdk-python-1"


def test_what_is_cached_is_used_without_network_or_go(machine: Machine) -> None:
    cached = script(machine.cache / "temporal", WORKS)
    machine.go()
    assert machine.find_with_download() == cached
    assert machine.heard == []
    assert not machine.journal.exists()


def test_go_builds_the_pinned_version_once_when_the_download_is_refused(machine: Machine) -> None:
    machine.go()
    built = machine.find()
    assert machine.find() == built == machine.cache / "temporal"
    assert machine.journal.read_text().splitlines() == [
        "install -ldflags -s -w github.com/temporalio/cli/cmd/temporal@v1.5.1 "
    ]
    assert any("building Temporal v1.5.1" in words for words in machine.heard)


def test_two_processes_do_not_build_at_once(machine: Machine) -> None:
    machine.go(install="sleep 0.5\n" + INSTALLS)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_find_in_another_process, [machine.environ] * 2)
    assert found == [str(machine.cache / "temporal")] * 2
    assert len(machine.journal.read_text().splitlines()) == 1


def _find_in_another_process(environ: dict[str, str]) -> str:
    return str(finding.find(lambda _words: None, environ, no_download))


def test_without_any_way_the_error_says_what_to_do(machine: Machine) -> None:
    machine.environ["PATH"] = str(machine.programs)
    with pytest.raises(TemporalUnavailable, match="there is no Go to build one") as refused:
        machine.find()
    for way in ("services>temporal>address", "`temporal` command line tool on PATH", "install Go 1.25"):
        assert way in str(refused.value)


def test_an_old_go_is_not_tried(machine: Machine) -> None:
    machine.go(version="go1.24.4")
    with pytest.raises(TemporalUnavailable, match=r"the Go here is 1\.24, too old"):
        machine.find()
    assert not machine.journal.exists()


def test_a_failed_build_shows_its_last_words_and_leaves_nothing(machine: Machine) -> None:
    machine.go(install="echo no space left on device >&2; exit 1")
    with pytest.raises(TemporalUnavailable, match="no space left on device"):
        machine.find()
    assert not (machine.cache / "temporal").exists()
