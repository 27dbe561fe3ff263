"""What is wrong with gathered settings, in words: what the types say, and what they cannot."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from clara_dicom_adapter.configuration import known_keys
from clara_dicom_adapter.configuration.allowed import allowed
from clara_dicom_adapter.configuration.connection import ALLOWED, database_url
from clara_dicom_adapter.configuration.gathered import Gathered, KeyPath
from clara_dicom_adapter.configuration.processors.base import is_group_by
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import ConfigurationInvalid

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID: Final = 64
_SYNTAXES: Final = ("dicom", "scp", "verification", "transferSyntaxes")
_MEANINGS: Final[Sequence[tuple[KeyPath, Callable[[str], bool], str]]] = (
    (_SYNTAXES, lambda text: len(text) <= _LONGEST_UID and bool(_UID.fullmatch(text)), "a UID is expected"),
    (
        ("services", "platform", "metadataDicomSource"),
        lambda text: text.lower() != "none" and is_group_by(text),
        "tags are written GGGG,EEEE",
    ),
    (
        ("services", "platform", "endpoint"),
        lambda text: bool(re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^\s:/\[\]]+):[0-9]{1,5}", text)),
        "host:port is expected",
    ),
    (
        ("services", "resultsServiceEndpoint"),
        lambda text: bool(re.fullmatch(r"https?://[^\s/]+(/\S*)?", text)),
        "an absolute http or https URL is expected",
    ),
)
"""Path, check and what is allowed, for text that has a meaning."""


def refuse_all(found: Gathered, error: ValidationError) -> None:
    """Add what the model says."""
    for each in error.errors(include_url=False):
        _refuse(found, each)


def _refuse(found: Gathered, error: ErrorDetails) -> None:
    path = _on_file(tuple(str(part) for part in error["loc"]))
    if error["type"] == "extra_forbidden":
        below = known_keys.at(path[:-1])
        known = known_keys.names(below) if below else []
        if len(path) == 1:
            known = [name for name in known if name not in known_keys.BESIDE]
        guess = known_keys.like(path[-1], known)
        hint = f"did you mean {guess}?" if guess else f"known here: {', '.join(sorted(known))}"
        found.problems.append(f"{found.name(path)} is unknown ({found.origin(path)}); {hint}")
        return
    value = error["input"]
    shown = "a value of another kind" if isinstance(value, dict | list) else repr(value)[:100]
    if isinstance(value, dict) and error["type"] == "value_error":
        shown = "what stands there"
    if known_keys.is_secret(path):
        shown = "its value"
    found.refuse(path, shown, _expected(path, error))


def _on_file(path: KeyPath) -> KeyPath:
    """Pydantic names fields of a model without alias generator by their attribute."""
    names: list[str] = []
    for part in path:
        model = known_keys.at(names)
        names.append((known_keys.canonical(model, part) if model else None) or part)
    return tuple(names)


def _expected(path: KeyPath, error: ErrorDetails) -> str:
    """What is allowed, in the words of the reference; of what has a check of its own, what that says."""
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    for length in range(len(path), 0, -1):
        model = known_keys.at(path[: length - 1])
        info = known_keys.field(model, path[length - 1]) if model else None
        if info is not None:
            words = allowed(info).replace("`", "")
            return error["msg"] if words == "text" and error["type"] != "string_type" else words
    return error["msg"]


def check(found: Gathered, data: DataFolder) -> None:
    """What types cannot say; of the values as they came, so that it is told together with everything else."""
    for path, is_right, expected in _MEANINGS:
        value = found.value(path)
        several = isinstance(value, list)
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(each, str) and not is_right(each):
                found.refuse((*path, str(number)) if several else path, repr(each)[:100], expected)
    if found.value(_SYNTAXES) == [] and found.value((*_SYNTAXES[:-1], "enabled")) is not False:
        found.refuse(_SYNTAXES, "[]", "at least one transfer syntax UID is needed")
    temporal = ("services", "temporal")
    files = [found.value((*temporal, name)) is None for name in ("tlsCertificateFile", "tlsKeyFile")]
    if files[0] != files[1]:
        found.refuse(temporal, "one of two files", "tlsCertificateFile and tlsKeyFile are given together")
    database = found.value(("database",))
    if isinstance(database, str):
        try:
            database_url(database, data)
        except ConfigurationInvalid:
            found.refuse(("database",), "its value", ALLOWED)
