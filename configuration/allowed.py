"""What a setting may be, in words: for messages and for the reference."""

import typing
from collections.abc import Iterator
from enum import Enum, EnumType
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clara_dicom_adapter.workflows.models import AeTitle

_WORDS: Final = {"bool": "true or false", "int": "whole number", "float": "number", "Path": "path"}
_AE_TITLE: Final = typing.get_args(AeTitle)[1:]
_FEW: Final = 2
_UNITS: Final = {
    "Seconds": "s",
    "Ms": "ms",
    "Hours": "h",
    "Days": "days",
    "Bytes": "bytes",
    "GB": "10^9 bytes",
    "MB": "10^6 bytes",
    "Percent": "%",
    "PduLength": "bytes",
}
"""By how a name ends."""


def allowed(info: FieldInfo) -> str:
    """Kind and limits."""
    bounds = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    limits = [
        text.format(getattr(each, name))
        for each in _constraints(info)
        for name, text in bounds.items()
        if getattr(each, name, None) is not None
    ]
    return ", ".join([_kind(info), *limits])


def unit(name: str) -> str:
    """What a number counts, by the name of its setting; empty for text and for mere counts."""
    return next((word for ending, word in _UNITS.items() if name.endswith(ending)), "")


def _constraints(info: FieldInfo) -> Iterator[Any]:
    for each in info.metadata:
        yield from getattr(each, "metadata", None) or [each]


def _kind(info: FieldInfo) -> str:
    annotation = info.annotation
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return "list of text"
    if origin is dict:
        return _one_of(typing.get_args(annotation)[1]) or "text by name"
    if origin is typing.Literal or isinstance(annotation, EnumType):
        return _one_of(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "object"
    if _AE_TITLE and any(each in info.metadata for each in _AE_TITLE):
        return "AE title, 1 to 16 characters without backslash"
    kinds = [annotation, *typing.get_args(annotation)]
    return next((_WORDS[kind.__name__] for kind in kinds if getattr(kind, "__name__", "") in _WORDS), "text")


def _members(annotation: Any) -> list[Enum]:
    return list(cast(type[Enum], annotation)) if isinstance(annotation, EnumType) else []


def _one_of(annotation: Any) -> str:
    values = [each.value for each in _members(annotation)] or typing.get_args(annotation)
    words = [f"`{value}`" for value in values]
    return " or ".join(words) if len(words) <= _FEW else f"one of {', '.join(words)}"
