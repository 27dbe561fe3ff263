"""``status --watch`` beside a real receiver: as a person sees it on a terminal, and as lines for a program."""

import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console
from support.commands import Clara
from support.receiver_wire import established, store_message
from support.signals import heed

from clara_dicom_adapter.cli.commands import watch
from clara_dicom_adapter.cli.commands.condition import Condition, PartCondition
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.errors import DatabaseUnavailable, SpoolUnusable
from clara_dicom_adapter.part_status import read_one
from clara_dicom_adapter.spool import Spool, SpoolRole

CLARA_DICOM = (sys.executable, "-m", "clara_dicom_adapter.cli", "dicom")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def receiver(clara: Clara, tmp_path: Path) -> Iterator[int]:
    """A receiver as a part alone; its port."""
    settings = {
        "dicom": {"scp": {"port": 0, "host": "127.0.0.1"}},
        "storage": {"watermarkPercent": 100, "reserveSpaceGB": 0, "preparedSpaceMB": 20},
    }
    (tmp_path / "settings.json").write_text(json.dumps({"DicomAdapter": settings}))
    assert clara("create", "aetitle", "-a", "CLARA", "pipeline-x=p").status == 0
    assert clara("create", "src", "-a", "CT1", "-i", "127.0.0.1").status == 0
    command = [*CLARA_DICOM, "receiver", "--config", str(tmp_path / "settings.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("part_ready" in line for line in process.stderr), "it ended"
            part = read_one(tmp_path / "data" / "run" / "receiver.json")
            assert part is not None
            yield part.ports["dicom"]
        finally:
            process.kill()


class Terminal:
    """A command on a terminal of its own, and everything it has written there."""

    def __init__(self, *arguments: str, lines: int = 40, columns: int = 120) -> None:
        self.written = ""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *CLARA_DICOM, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            preexec_fn=heed,  # noqa: PLW1509 - it starts no thread before
        )
        os.close(theirs)
        self._descriptor = ours

    def read_until(self, *wanted: str) -> None:
        """Read until all of it stands on the terminal since the last time."""
        seen = ""
        deadline = time.monotonic() + 60
        while not all(re.search(each, seen) for each in wanted):
            if not select.select([self._descriptor], [], [], max(deadline - time.monotonic(), 0))[0]:
                pytest.fail(f"no {wanted}, but {seen[-3000:]}")
            try:
                read = os.read(self._descriptor, 65536).decode(errors="replace")
            except OSError:  # nobody has the other end
                pytest.fail(f"it ended with {self.process.wait(30)}, after {self.written[-3000:]}")
            seen += _CONTROL.sub("", read)
            self.written += read

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit status."""
        os.write(self._descriptor, b"\x03")
        try:
            while read := os.read(self._descriptor, 65536):
                self.written += read.decode(errors="replace")
        except OSError:  # nobody has the other end
            pass
        os.close(self._descriptor)
        return self.process.wait(30)


def test_a_person_sees_associations_come_store_and_go(receiver: int) -> None:
    terminal = Terminal("status", "--watch")
    try:
        terminal.read_until("no association is open", "2 of 2 listeners", r"receiver\s+ready")
        with established(receiver) as peer:
            message = store_message("1.2.3", 2_000_000)
            peer.sendall(message[:-1000])
            terminal.read_until("open associations: 1", r"CT1 127.0.0.1, CLARA +[01] +0 .*arriving")
            peer.sendall(message[-1000:])
            assert peer.recv(1024)[0] == 4
            terminal.read_until(r"CLARA +[01] +1 +2\.0 .* ms +1 .*idle", "spool: 1 instances")
        terminal.read_until("no association is open", "hand-over: 1 instances queued", "does not reach Temporal")
        assert terminal.interrupt() == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()


def test_a_program_gets_a_line_for_each_look(receiver: int) -> None:
    with (
        established(receiver) as peer,
        subprocess.Popen([*CLARA_DICOM, "status", "--watch", "--json"], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            peer.sendall(store_message("1.2.3", 500))
            assert peer.recv(1024)[0] == 4
            told: dict[str, Any] = {}
            associations: list[dict[str, Any]] = []
            while not any(each["instances"] for each in associations):  # it is told of a moment after the reply
                told = json.loads(process.stdout.readline())
                (part,) = told["parts"]
                associations = part["status"]["associations"]
            (association,) = associations
            assert (association["calling_ae_title"], association["called_ae_title"]) == ("CT1", "CLARA")
            assert (association["bytes"], association["queued"], association["arriving"]) == (500, 1, False)
            assert 0 < association["flush_ms"] == 1000 * association["flush_seconds"]
            assert told["at"] < json.loads(process.stdout.readline())["at"]
        finally:
            process.kill()


def test_what_is_no_terminal_is_told_what_there_is(clara: Clara) -> None:
    done = clara("status", "--watch")
    assert done.status == 2
    assert "--json" in done.err


def test_looking_ends_after_the_refreshes_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SECONDS", 0)
    place = Place(tmp_path / "data")
    assert [each.state for each in watch.looks(lambda: Condition.of(place), 3)] == ["never started"] * 3


@pytest.mark.parametrize("error", [SpoolUnusable("no"), DatabaseUnavailable("SQLite", "no"), OSError("no")])
def test_what_cannot_be_had_is_left_out_and_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_arguments: object, **_names: object) -> NoReturn:
        raise error

    place = Place(tmp_path / "data")
    Spool.open(place.spool, SpoolRole.TOOL).close()
    (look,) = watch.looks(lambda: Condition.of(place), 1)
    assert look.spool is not None
    assert look.waiting == {"quarantined": 0, "submissions": 0, "exports": 0}
    monkeypatch.setattr(Spool, "open", refuse)
    monkeypatch.setattr(Place, "database", refuse)
    (look,) = watch.looks(lambda: Condition.of(place), 1)
    assert (look.spool, look.waiting) == (None, {})


@pytest.mark.parametrize("width", [80, 120])
def test_more_associations_than_lines_leave_the_busiest(width: int) -> None:
    one = {
        "calling_ae_title": "CT1",
        "called_ae_title": "CLARA",
        "peer": "2001:db8::1",
        "listener": 0,
        "instances": 5,
        "bytes": 1_000_000,
        "instances_per_second": 1.0,
        "flush_ms": None,
        "queued": 5,
        "seconds": 90.0,
        "arriving": True,
    }
    associations = [{**one, "calling_ae_title": f"CT{speed}", "bytes_per_second": speed * 1e6} for speed in range(40)]
    part = PartCondition("receiver", "ready", "ready", 1, 0.0, 0, "", {}, status={"associations": associations})
    console = Console(width=width, height=24, force_terminal=True, record=True, file=io.StringIO())
    console.print(watch.rendered(Condition("/data", running=True, state="running", parts=(part,)), console.size))
    text = console.export_text()
    assert "CT39" in text
    assert "CT0 " not in text
    shown = len(re.findall("arriving", text))
    assert f"and {40 - shown} more" in text
    assert shown >= 3
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= width
