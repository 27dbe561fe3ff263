"""The JSON of 0.8 (original-behaviour 1.15): plain objects, arrays of them, and problem documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from clara_dicom_adapter.api import problems
from clara_dicom_adapter.api.kinds import AnyKind
from clara_dicom_adapter.api.shapes import Examples, Shape
from clara_dicom_adapter.configuration.entities import Entity
from clara_dicom_adapter.configuration.settings import Dialect


class PlainShape(Shape):
    """0.8."""

    dialect = Dialect.V0_8
    created_status = 201

    def read(self, kind: AnyKind, body: object, name: str | None = None) -> Entity:
        entity: Entity = kind.check(with_name(body, name))
        return entity

    def listed(self, kind: AnyKind, entities: Sequence[Entity]) -> object:
        return [self.one(kind, entity) for entity in entities]

    def one(self, kind: AnyKind, entity: Entity) -> object:
        del kind
        return entity.model_dump(mode="json", by_alias=True)

    def removed(self, kind: AnyKind, entity: Entity) -> object:
        return self.one(kind, entity)

    def error(self, status: int, title: str, detail: str) -> tuple[object, str]:
        return problems.Problem(title=title, status=status, detail=detail).model_dump(), problems.MEDIA_TYPE

    def examples(self, kind: AnyKind) -> Examples:
        return Examples(body=kind.example, one=kind.example, listed=[kind.example], removed=kind.example)

    def schemas(self, kind: AnyKind) -> Examples:
        schema = entity_schema(kind.entity)
        body = {**schema, "required": [name for name in schema["required"] if name not in kind.optional]}
        return Examples(body=body, one=schema, listed={"type": "array", "items": schema}, removed=schema)


def with_name(body: object, name: str | None) -> object:
    """A body that names nothing gets the name of the entity whose place it takes."""
    if name is None or not isinstance(body, Mapping):
        return body
    named = any(str(key).lower() == "name" and value not in (None, "") for key, value in body.items())
    return (
        body if named else {**{key: value for key, value in body.items() if str(key).lower() != "name"}, "name": name}
    )


def entity_schema(entity: type[Entity]) -> dict[str, Any]:
    """The JSON schema of an entity, in one piece: it is checked by ``configuration.checks``, not by the framework."""
    schema = entity.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    for field in schema["properties"].values():
        for choice in field.get("anyOf", []):
            name = choice.pop("$ref", "").rpartition("/")[2]
            choice.update(definitions.get(name, {}))
    return schema
