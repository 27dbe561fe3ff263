"""How the configuration's routes are described in OpenAPI: in both shapes, with the setting's as plain JSON."""

from collections.abc import Callable
from typing import Any, Final

from clara_dicom_adapter.api import problems
from clara_dicom_adapter.api.exchange import SHAPES
from clara_dicom_adapter.api.kinds import AnyKind
from clara_dicom_adapter.api.resource_shape import STATUS_SCHEMA
from clara_dicom_adapter.api.shapes import JSON, Examples, Shape, media_type_of
from clara_dicom_adapter.configuration.settings import Dialect

Document = dict[Any, Any]
_LOCATION: Final[Document] = {"description": "Where it is found from now on.", "schema": {"type": "string"}}


class Descriptions:
    """What FastAPI is told of each of a kind's routes, as keyword arguments."""

    def __init__(self, kind: AnyKind, default: Dialect) -> None:
        self._kind = kind
        self._default = default

    @property
    def listing(self) -> Document:
        name, words = self._kind.name, self._kind.words
        return {
            "operation_id": f"list{name}s",
            "summary": f"List the {words}s",
            "responses": self._ok(lambda examples: examples.listed) | self._errors(503),
        }

    @property
    def getting(self) -> Document:
        return {
            "operation_id": f"get{self._kind.name}",
            "summary": f"One {self._kind.words}, by {self._kind.key}",
            "responses": self._ok(lambda examples: examples.one) | self._errors(400, 404, 503),
        }

    @property
    def adding(self) -> Document:
        created = {
            shape.created_status: {
                "description": "It is there, and acts at once.",
                "headers": {"Location": _LOCATION},
                "content": self._content(lambda examples: examples.one, [shape]),
            }
            for shape in SHAPES.values()
        }
        return {
            "operation_id": f"add{self._kind.name}",
            "summary": f"Add a {self._kind.words}; it acts from now on",
            "status_code": SHAPES[self._default].created_status,
            "responses": created | self._errors(400, 413, 415, 503),
            "openapi_extra": self._body(),
        }

    @property
    def replacing(self) -> Document:
        return {
            "operation_id": f"replace{self._kind.name}",
            "summary": f"Put another {self._kind.words} in its place; open groups stay as they were received",
            "responses": self._ok(lambda examples: examples.one) | self._errors(400, 404, 413, 415, 503),
            "openapi_extra": self._body(),
        }

    @property
    def removing(self) -> Document:
        return {
            "operation_id": f"delete{self._kind.name}",
            "summary": f"Remove a {self._kind.words}; what was received goes its way",
            "responses": self._ok(lambda examples: examples.removed) | self._errors(400, 404, 503),
        }

    def _ok(self, part: Callable[[Examples], Any]) -> Document:
        shapes = list(SHAPES.values())
        return {200: {"description": "As asked.", "content": self._content(part, shapes)}}

    def _body(self) -> Document:
        content = self._content(lambda examples: examples.body, list(SHAPES.values()))
        return {"requestBody": {"required": True, "content": content}}

    def _content(self, part: Callable[[Examples], Any], shapes: list[Shape]) -> Document:
        content: Document = {}
        for shape in shapes:
            media = {"schema": part(shape.schemas(self._kind)), "example": part(shape.examples(self._kind))}
            content[media_type_of(shape.dialect)] = media
            if shape.dialect is self._default:
                content[JSON] = media
        return content

    def _errors(self, *statuses: int) -> Document:
        """Errors of the 0.8 shape are problem documents, those of 0.6 have a ``Status``."""
        described = problems.responses(*statuses, 422, 401, 403, 406)
        for response in described.values():
            response["content"] = {**response["content"], JSON: {"schema": STATUS_SCHEMA}}
        return described
