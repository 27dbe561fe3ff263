"""Which shapes a request speaks.

``api.dialect`` says which shape plain ``application/json`` has. A request chooses for itself with a vendor media type:
``Content-Type`` says what its body is, ``Accept`` what the answer shall be, and each stands for both where the other
says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from clara_dicom_adapter.api.dependencies import Deps
from clara_dicom_adapter.api.plain_shape import PlainShape
from clara_dicom_adapter.api.problems import UnknownMediaType
from clara_dicom_adapter.api.resource_shape import ResourceShape
from clara_dicom_adapter.api.shapes import JSON, VENDOR, Shape, media_type_of
from clara_dicom_adapter.configuration.settings import Dialect

SHAPES: Final[Mapping[Dialect, Shape]] = {shape.dialect: shape for shape in (PlainShape(), ResourceShape())}


@dataclass(frozen=True)
class Exchange:
    """The shapes of one request.

    Attributes:
        media_type: Of the answer: the vendor's when it was asked for, or is not what plain JSON means here.
    """

    body: Shape
    answer: Shape
    media_type: str


def exchange(request: Request, deps: Deps) -> Exchange:
    """What a request and its answer look like; raises UnknownMediaType."""
    sent = _dialect(request.headers.get("content-type", ""), 415)
    asked = _asked(request.headers.get("accept", ""))
    answer = asked or sent or deps.settings.dialect
    found = Exchange(
        body=SHAPES[sent or asked or deps.settings.dialect],
        answer=SHAPES[answer],
        media_type=media_type_of(answer) if asked or answer is not deps.settings.dialect else JSON,
    )
    request.state.shape = found.answer  # for the error handlers
    return found


Speaks = Annotated[Exchange, Depends(exchange)]


def _asked(accept: str) -> Dialect | None:
    """The dialect asked for; the first of those that are liked best. Other media types leave it to the setting."""
    ranges = [_range(each) for each in accept.split(",") if each.strip()]
    liked = sorted((each for each in ranges if each[1] > 0), key=lambda each: -each[1])
    others = any(not media_type.startswith(VENDOR) for media_type, _ in liked)
    for media_type, _ in liked:
        if media_type in {JSON, "application/*", "*/*"}:
            return None
        try:
            found = _dialect(media_type, 406)
        except UnknownMediaType:
            if not others and media_type == liked[-1][0]:
                raise
            continue
        if found is not None:
            return found
    return None


def _range(text: str) -> tuple[str, float]:
    """A media range and how much it is liked (RFC 9110 section 12.5.1)."""
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
    try:
        return media_type, float(quality)
    except ValueError:
        return media_type, 1.0


def _dialect(content_type: str, status: int) -> Dialect | None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type.startswith(VENDOR):
        return None
    for dialect in Dialect:
        if media_type == media_type_of(dialect):
            return dialect
    raise UnknownMediaType(media_type, [media_type_of(dialect) for dialect in Dialect], status)
