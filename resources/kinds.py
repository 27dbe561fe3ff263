"""The three kinds of resource, and how each becomes an entity and back.

Group, version and kinds are those of 0.7 (the kinds also stand in seed 001), so that a site's old manifests still
apply. Definitions: ``deploy/chart/crds``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from clara_dicom_adapter.configuration import checks, legacy_fields
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source
from clara_dicom_adapter.configuration.pinning import DEFAULT_TIMEOUT_SECONDS
from clara_dicom_adapter.configuration.processors.base import PIPELINE_PREFIX, TIMEOUT
from clara_dicom_adapter.errors import ConfigurationInvalid

GROUP: Final = "dicom.clara.nvidia.com"
VERSION: Final = "v1beta2"
API_VERSION: Final = f"{GROUP}/{VERSION}"

Resource = Mapping[str, Any]
"""A resource as it comes from the API server."""
EntityT = TypeVar("EntityT", bound=Entity)


@dataclass(frozen=True)
class Kind(Generic[EntityT]):
    """One kind of resource.

    Attributes:
        words: The kind in messages.
        key: What its resource is named after.
        claims: What no two of them may have in common, in words for the message.
        found_by: By what one of them is asked for, the first that finds any counts; with the host that is given.
        exists: That there is such a one already, in the words of 0.8.
    """

    name: str
    plural: str
    words: str
    entity: Callable[[Resource], EntityT]
    spec: Callable[[EntityT, str], dict[str, Any]]
    key: Callable[[EntityT], str]
    claims: Callable[[EntityT], tuple[str, ...]]
    found_by: tuple[Callable[[EntityT, str, str | None], bool], ...]
    exists: Callable[[EntityT], str]

    @property
    def list_name(self) -> str:
        return f"{self.name}List"


def name_of(resource: Resource) -> str:
    return str(resource["metadata"]["name"])


def _clara_ae_title(resource: Resource) -> ClaraAeTitle:
    """``pipelineId`` and ``timeout`` of 0.6 become processor settings; without a timeout it is 0 (DESIGN 4)."""
    spec = resource["spec"]
    twice = [
        f"{field} and processorSettings.{key.strip()} are both given: leave one of them out."
        for field, begin in (("timeout", TIMEOUT), ("pipelineId", PIPELINE_PREFIX))
        for key in spec.get("processorSettings") or {}
        if field in spec and key.strip().lower().startswith(begin)
    ]
    if twice:
        raise ConfigurationInvalid(twice)
    return checks.clara_ae_title(legacy_fields.translated({"name": name_of(resource), **spec}, of_0_6=False))


def _clara_ae_title_spec(entity: ClaraAeTitle, name: str) -> dict[str, Any]:
    spec = entity.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    settings = dict(entity.processor_settings)
    if "timeout" not in {key.strip().lower() for key in settings}:
        settings["timeout"] = f"{DEFAULT_TIMEOUT_SECONDS:g}"  # written out: in a resource it would be 0
    return _without_name(spec, name) | {"processorSettings": settings}


def _source(resource: Resource) -> Source:
    return checks.source(resource["spec"])


def _source_spec(entity: Source, name: str) -> dict[str, Any]:
    del name
    return entity.model_dump(mode="json", by_alias=True)


def _destination(resource: Resource) -> Destination:
    return checks.destination({"name": name_of(resource), **resource["spec"]})


def _destination_spec(entity: Destination, name: str) -> dict[str, Any]:
    return _without_name(entity.model_dump(mode="json", by_alias=True, exclude_none=True), name)


def _without_name(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if (key, value) != ("name", name)}


CLARA_AE_TITLE: Final = Kind[ClaraAeTitle](
    name="ClaraAeTitle",
    plural="claraaetitles",
    words="Clara AE Title",
    entity=_clara_ae_title,
    spec=_clara_ae_title_spec,
    key=lambda entity: entity.name,
    claims=lambda entity: (f"name {entity.name}", f"AE title {entity.ae_title}"),
    found_by=(lambda entity, key, _: entity.name == key, lambda entity, key, _: entity.ae_title == key),
    exists=lambda entity: f"Clara AE Title {entity.ae_title} already exists.",
)
SOURCE: Final = Kind[Source](
    name="Source",
    plural="sources",
    words="Source",
    entity=_source,
    spec=_source_spec,
    key=lambda entity: f"{entity.ae_title}-{entity.host_ip}",
    claims=lambda entity: (f"AE title {entity.ae_title} at {entity.host_ip.casefold()}",),
    found_by=(
        lambda entity, key, host: (
            entity.ae_title == key and (host is None or host.casefold() == entity.host_ip.casefold())
        ),
    ),
    exists=lambda entity: f"Source with AE Title {entity.ae_title} already exists.",
)
DESTINATION: Final = Kind[Destination](
    name="Destination",
    plural="destinations",
    words="Destination",
    entity=_destination,
    spec=_destination_spec,
    key=lambda entity: entity.name,
    claims=lambda entity: (f"name {entity.name.casefold()}",),
    found_by=(
        lambda entity, key, _: entity.name.casefold() == key.casefold(),
        lambda entity, key, _: entity.ae_title == key,
    ),
    exists=lambda entity: f"Destination with name {entity.name} already exists.",
)
