"""The tables of ``docs/configuration.md``, written from the settings' model.

``python -m clara_dicom_adapter.configuration.reference docs/configuration.md`` brings them up to date; a test says when
they are stale.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clara_dicom_adapter.configuration import known_keys, settings
from clara_dicom_adapter.configuration.allowed import allowed, unit
from clara_dicom_adapter.configuration.gathered import SECTION, canonical_name

_BEGIN: Final = "<!-- settings: written by `make docs` from configuration/settings.py -->"
_END: Final = "<!-- end of settings -->"


def refreshed(page: str) -> str:
    """The page with its tables as the model has them now."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    tables = "\n".join(
        [*_section(settings.Settings, ()), *_section(settings.LoggingSettings, ("logging",))],
    )
    return f"{before}{_BEGIN}\n\n{tables}\n{_END}{after}"


def _section(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    told = _docstrings(model)
    rows, below = [], []
    for attribute, info in model.model_fields.items():
        name = info.alias or attribute
        section = known_keys.section(model, name)
        if not path and name in known_keys.BESIDE:
            continue  # in sections of their own
        if section is not None:
            below.append((section, (*path, name)))
        else:
            about = (_default(info), unit(name), allowed(info), told.get(attribute, ""))
            rows.append(f"| `{name}` | {' | '.join(about)} |".replace("|  |", "| |"))
    if rows:
        yield f"## {canonical_name(path) if path else SECTION}\n"
        if path and model.__doc__:
            yield f"{_one_line(model.__doc__ or '')}\n"
        yield "| key | default | unit | allowed | meaning |\n| --- | --- | --- | --- | --- |"
        yield from rows
        yield ""
    for section, where in below:
        yield from _section(section, where)


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field; Python does not keep it, so it is read from the source."""
    [definition] = ast.parse(inspect.cleandoc("\n" + inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - it is the source of a class
    found: dict[str, str] = {}
    for statement, after in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[statement.target.id] = _one_line(str(after.value.value))
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", r"\|")


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Enum):
        value = value.value
    if value is None or value == "":
        return "none"
    if isinstance(value, tuple | dict):
        return "<br>".join(f"`{each}`" for each in value) or "none"
    return f"`{json.dumps(value) if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(refreshed(file.read_text(encoding="utf-8")), encoding="utf-8")
