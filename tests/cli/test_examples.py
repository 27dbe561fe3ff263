"""The examples that ``--help`` shows name only what exists."""

import shlex
from typing import Any

import pytest
import typer.main

from clara_dicom_adapter.cli.app import app
from clara_dicom_adapter.cli.examples import _EXAMPLES, examples


@pytest.mark.parametrize("command", _EXAMPLES, ids=" ".join)
def test_every_example_has_commands_and_options_that_exist(command: tuple[str, ...]) -> None:
    for line in examples(*command).splitlines():
        if not line.startswith("clara "):
            continue
        found: Any = typer.main.get_command(app)
        words = shlex.split(line)[1:]
        options: set[str] = set()
        while words:
            word = words.pop(0)
            known = {name: each for each in found.params for name in [*each.opts, *each.secondary_opts]}
            if word.startswith("-"):
                assert word in known, line
                options.add(word)
                if not known[word].is_flag:
                    words.pop(0)
            elif hasattr(found, "commands"):
                assert word in found.commands, line
                found = found.commands[word]
        assert not hasattr(found, "commands"), f"{line} ends with a group"
        needed = [each for each in found.params if each.required and each.param_type_name == "option"]
        assert all(options & set(each.opts) for each in needed), line
        assert "Examples:" in found.epilog
