"""The JSON of 0.6 (seed 001): documents as Kubernetes has them, answers 200 and 400, and ``Status`` for the rest.

A body is what 0.6 took: the fields themselves. The documents that are answered are understood as bodies, too, so that
what was read can be sent back changed.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from clara_dicom_adapter.api.kinds import CLARA_AE_TITLES, AnyKind
from clara_dicom_adapter.api.plain_shape import entity_schema, with_name
from clara_dicom_adapter.api.shapes import JSON, Examples, Shape
from clara_dicom_adapter.configuration import legacy_fields
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Entity
from clara_dicom_adapter.configuration.resource_names import resource_name
from clara_dicom_adapter.configuration.settings import Dialect
from clara_dicom_adapter.errors import ConfigurationInvalid

API_VERSION: Final = "dicom.clara.nvidia.com/v1beta2"
_METADATA: Final = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_REASONS: Final = {400: "Invalid", 404: "NotFound", 503: "ServiceUnavailable"}


class ResourceShape(Shape):
    """0.6."""

    dialect = Dialect.V0_6
    created_status = 200

    def read(self, kind: AnyKind, body: object, name: str | None = None) -> Entity:
        values = with_name(_spec(kind, body), name)
        if kind is CLARA_AE_TITLES and isinstance(values, Mapping):
            values = legacy_fields.translated(values)
        entity: Entity = kind.check(values)
        return entity

    def listed(self, kind: AnyKind, entities: Sequence[Entity]) -> object:
        items = [self.one(kind, entity) for entity in entities]
        return {"apiVersion": API_VERSION, "items": items, "kind": f"{kind.name}List", "metadata": {}}

    def one(self, kind: AnyKind, entity: Entity) -> object:
        spec = entity.model_dump(mode="json", by_alias=True)
        if isinstance(entity, ClaraAeTitle):
            spec |= legacy_fields.shown(entity)
        metadata = {"name": resource_name(entity)}
        return {"apiVersion": API_VERSION, "kind": kind.name, "metadata": metadata, "spec": spec}

    def removed(self, kind: AnyKind, entity: Entity) -> object:
        return _status("Success", details={"name": resource_name(entity), "kind": kind.name})

    def error(self, status: int, title: str, detail: str) -> tuple[object, str]:
        del title
        reason = _REASONS.get(status, HTTPStatus(status).phrase.replace(" ", ""))
        return _status("Failure", message=detail, reason=reason, code=status), JSON

    def examples(self, kind: AnyKind) -> Examples:
        entity = self.read(kind, kind.resource_example)
        return Examples(
            body=kind.resource_example,
            one=self.one(kind, entity),
            listed=self.listed(kind, [entity]),
            removed=self.removed(kind, entity),
        )

    def schemas(self, kind: AnyKind) -> Examples:
        spec = entity_schema(kind.entity)
        fields = {**spec, "required": [name for name in spec["required"] if name not in kind.optional]}
        if kind is CLARA_AE_TITLES:
            fields["properties"] = spec["properties"] | legacy_fields.SCHEMA
            spec["properties"] |= {name: legacy_fields.SCHEMA[name] for name in legacy_fields.SHOWN}
        one = _document(kind.name, {"metadata": _METADATA, "spec": spec})
        listed = _document(
            f"{kind.name}List", {"metadata": {"type": "object"}, "items": {"type": "array", "items": one}}
        )
        document = {"type": "object", "properties": {"spec": fields}, "required": ["spec"]}
        return Examples(body={"anyOf": [fields, document]}, one=one, listed=listed, removed=STATUS_SCHEMA)


def _document(kind: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {"apiVersion": {"type": "string", "const": API_VERSION}, "kind": {"type": "string", "const": kind}}
    return {
        "type": "object",
        "properties": {**fixed, **properties},
        "required": ["apiVersion", "kind", *properties],
        "additionalProperties": False,
    }


STATUS_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "apiVersion": {"type": "string", "const": "v1"},
        "kind": {"type": "string", "const": "Status"},
        "metadata": {"type": "object"},
        "status": {"type": "string", "enum": ["Success", "Failure"]},
        "message": {"type": "string"},
        "reason": {"type": "string"},
        "code": {"type": "integer"},
        "details": {"type": "object"},
    },
    "required": ["apiVersion", "kind", "metadata", "status"],
    "additionalProperties": False,
}


def _status(status: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": status, **more}


def _spec(kind: AnyKind, body: object) -> object:
    """The fields of a body, or of a document."""
    if not isinstance(body, Mapping) or "spec" not in body:
        return body
    wanted = {"apiVersion": API_VERSION, "kind": kind.name}
    wrong = [
        f"Invalid {key} '{str(body[key])[:100]}': '{value}' is expected."
        for key, value in wanted.items()
        if body.get(key, value) != value
    ]
    spec, metadata = body["spec"], body.get("metadata", {})
    if not isinstance(spec, Mapping) or not isinstance(metadata, Mapping):
        wrong.append("A document has the objects 'metadata' and 'spec'.")
    if wrong:
        raise ConfigurationInvalid(wrong)
    assert isinstance(metadata, Mapping)  # noqa: S101 - said above
    return with_name(spec, metadata.get("name") if kind.named else None)
