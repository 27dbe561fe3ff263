"""Tables for people: an id is kept in one piece as long as the terminal is wide enough."""

import io
import re
import sys

import pytest

from clara_dicom_adapter.cli.output import print_table

ID = "01a1fdc078c67aa2afe7f326340042d9"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    row = (ID, "MYCT", "rejected: the calling AE title is unknown, or calls from another host (1/1/3)", "0 bytes")
    print_table(("association", "calling", "state", "size"), [row], empty="none")
    monkeypatch.undo()
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())


@pytest.mark.parametrize("columns", [70, 90, 200])
def test_an_id_can_be_copied(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(columns, monkeypatch)
    assert ID in text
    assert "(1/1/3)" in text


def test_on_a_narrow_terminal_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(40, monkeypatch)
    assert ID not in text
    below = text.rpartition("───")[2].splitlines()[1:]
    assert "".join(line[1:].split(" ")[0] for line in below) == ID
