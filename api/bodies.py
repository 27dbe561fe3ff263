"""Request bodies, read by ourselves, so that nobody can fill the memory and everything wrong is told in our words."""

import json
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from clara_dicom_adapter.errors import ConfigurationInvalid

_LONGEST_JSON: Final = 1 << 20
HEAD_BYTES: Final = 16 << 20
"""What is kept of a posted DICOM file: everything that is looked at stands before its pixel data."""


class BodyTooLarge(Exception):
    """A JSON body longer than any configuration."""

    def __init__(self) -> None:
        super().__init__(f"A body of at most {_LONGEST_JSON} bytes is expected.")


class UnexpectedContent(Exception):
    """The body is of a media type that is not taken here."""

    def __init__(self, media_type: str, expected: str) -> None:
        super().__init__(f"'{media_type[:100]}' is not taken here; {expected} is expected.")


async def json_object(request: Request) -> object:
    """The body as JSON.

    Raises:
        ConfigurationInvalid: It is no JSON.
        UnexpectedContent: It says that it is something else.
        BodyTooLarge: It is longer than 1 MiB.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnexpectedContent(media_type, "application/json")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _LONGEST_JSON:
            raise BodyTooLarge
    try:
        return json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ConfigurationInvalid([f"The body is no JSON: {_where(error)}."]) from error


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _where(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


async def file_head(request: Request) -> bytes:
    """The beginning of a posted file; the rest is read and forgotten."""
    kept = bytearray()
    async for piece in request.stream():
        kept += piece[: max(HEAD_BYTES - len(kept), 0)]
    return bytes(kept)


JsonBody = Annotated[object, Depends(json_object)]
FileHead = Annotated[bytes, Depends(file_head)]
