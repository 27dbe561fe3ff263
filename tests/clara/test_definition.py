"""Reading pipeline definitions."""

import re
from pathlib import Path

import pytest

from clara_dicom_adapter.clara.embedded.definition import DefinitionInvalid, expand, parse

MINIMAL = "name: p\noperators:\n  - {name: a, command: [echo]}\n"


def test_the_example_of_the_documentation_is_a_valid_definition() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "pipelines.md").read_text()
    example = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[0]
    definition = parse(example)
    assert definition.name == "mip"
    assert definition.operators[0].time_limit == 600
    assert definition.register_results[0].destinations == ("MYPACS",)


def test_numbers_are_taken_as_words() -> None:
    definition = parse("name: p\noperators:\n  - {name: a, command: [sleep, 1], environment: {N: 2}}\n")
    assert definition.operators[0].command == ("sleep", "1")
    assert definition.operators[0].environment == {"N": "2"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "not YAML"),
        ("- a", "not a mapping"),
        ("name: p", "operators"),
        (MINIMAL + "register-result: []", "register-result"),
        ("name: ../p\noperators:\n  - {name: a, command: [echo]}", "name"),
        ("name: p\noperators:\n  - {name: a/b, command: [echo]}", "operators.0.name"),
        ("name: p\noperators:\n  - {name: a, command: []}", "operators.0.command"),
        ("name: p\noperators:\n  - {name: a, command: [x], timeLimit: 0}", "timeLimit"),
        ("name: p\noperators:\n  - {name: a, command: [x], input: b}\n  - {name: b, command: [x]}", "no earlier"),
        ("name: p\noperators:\n  - {name: a, command: [x]}\n  - {name: a, command: [x]}", "taken"),
        ("name: p\noperators:\n  - {name: a, command: ['{nope}']}", "{nope}"),
        (MINIMAL + "register-results:\n  - {agent: A, from: b}", "no operator"),
        (MINIMAL + "id: abc", "32 hexadecimal"),
        (MINIMAL + "parameters: {python: x}", "fixed placeholder"),
    ],
)
def test_what_is_wrong_is_told(text: str, problem: str) -> None:
    with pytest.raises(DefinitionInvalid, match=re.escape(problem)):
        parse(text)


def test_only_whole_names_in_braces_are_placeholders() -> None:
    assert expand('{"a": {x}} {y z} {{x}} {{"b": 2}}', {"x": "1"}) == '{"a": 1} {y z} {x} {{"b": 2}}'
