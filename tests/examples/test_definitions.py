"""The example definitions are what the embedded platform takes."""

import pytest
from support.example_pipelines import EXAMPLES

from clara_dicom_adapter.clara.embedded.definition import parse


@pytest.mark.parametrize("name", ["mip", "bone-seg"])
def test_a_definition_is_accepted_and_its_script_is_there(name: str) -> None:
    """Its name is that of its file, its command's script lies next to it, and its result is registered."""
    definition = parse((EXAMPLES / "pipelines" / f"{name}.yaml").read_text())
    assert definition.name == name
    (operator,) = definition.operators
    interpreter, script, *_ = operator.command
    assert interpreter == "python"
    assert script.startswith("{pipeline}/")
    assert (EXAMPLES / "pipelines" / script.removeprefix("{pipeline}/")).is_file()
    (registration,) = definition.register_results
    assert registration.operator == operator.name
