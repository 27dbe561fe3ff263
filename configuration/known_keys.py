"""The settings' keys as they stand on file, found without regard to case: .NET's configuration does not look at it."""

import difflib
import types
import typing
from collections.abc import Collection, Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clara_dicom_adapter.configuration.settings import Settings

_SECRETS: Final = frozenset({"apiKey", "database"})
BESIDE: Final = frozenset({"database", "logging"})
"""Of the settings, those that stand on file beside ``DicomAdapter``, in sections of their own."""


def names(model: type[BaseModel]) -> list[str]:
    """A section's keys, as they stand on file."""
    return [info.alias or name for name, info in model.model_fields.items()]


def canonical(model: type[BaseModel], key: str) -> str | None:
    """The key meant, in its own spelling, also of the kebab-case of 0.6 and 0.7; None when there is none like it."""
    wanted = key.replace("_", "").replace("-", "").lower()
    return next((name for name in names(model) if name.lower() == wanted), None)


def section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a key that is a section; None when it is a value."""
    annotation = _annotation(model, name)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def at(path: Iterable[str]) -> type[BaseModel] | None:
    """The section at a path of the settings; None when a value stands there, or nothing."""
    model: type[BaseModel] | None = Settings
    for name in path:
        model = section(model, name) if model else None
    return model


def is_list(model: type[BaseModel], name: str) -> bool:
    return typing.get_origin(_annotation(model, name)) is tuple


def is_optional(model: type[BaseModel], name: str) -> bool:
    annotation = _annotation(model, name)
    return isinstance(annotation, types.UnionType) and type(None) in annotation.__args__


def field(model: type[BaseModel], name: str) -> FieldInfo | None:
    """What the model says of a key."""
    return next((info for key, info in model.model_fields.items() if name in {info.alias, key}), None)


def is_secret(path: Iterable[str]) -> bool:
    """Whether a value at this path must not be repeated in a message."""
    return any(name in _SECRETS for name in path)


def like(key: str, known: Collection[str]) -> str | None:
    """The known key that a typing mistake most likely meant."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower(), lowered, n=1, cutoff=0.7)
    return lowered[close[0]] if close else None


def nearly(keys: Iterable[str], known: Collection[str]) -> list[str]:
    """Keys that are none of the known ones, yet close to one."""
    return [key for key in keys if key not in known and like(key, known)]


def _annotation(model: type[BaseModel], name: str) -> Any:
    found = field(model, name)
    return found.annotation if found else None
