"""The three kinds of entities that are configured over REST, each described once; the routes are made of these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic

from fastapi import Path
from starlette.convertors import Convertor, register_url_convertor

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import DEFAULT_PROCESSOR, ClaraAeTitle, Destination, Source
from clara_dicom_adapter.configuration.entity_store import EntityT


@dataclass(frozen=True)
class Kind(Generic[EntityT]):
    """One kind.

    Attributes:
        route: Last part of the path, as the documents write it.
        name: In operation ids, and of the Kubernetes resource.
        words: In sentences.
        key: What one of them is found by.
        check: Makes an entity of a JSON object in the names of 0.8; raises ConfigurationInvalid.
        named: Whether it has a field ``name``.
        optional: Required fields of the entity that a body need not have.
        example: In the names of 0.8.
        resource_example: What a client of 0.6 posts.
    """

    route: str
    entity: type[EntityT]
    name: str
    words: str
    key: str
    check: Callable[[object], EntityT]
    named: bool
    optional: tuple[str, ...]
    example: Mapping[str, Any]
    resource_example: Mapping[str, Any]

    @property
    def path(self) -> str:
        return f"/api/config/{self.route}"


class _KeyConvertor(Convertor[str]):
    """Everything, slashes and line ends too, so that a key that is none is told as such, and not as no path of ours."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("key", _KeyConvertor())
AnyKind = Kind[Any]
Key = Annotated[str, Path(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=253, description="A name or an AE title.")]

CLARA_AE_TITLES: Final = Kind(
    route="claraaetitle",
    entity=ClaraAeTitle,
    name="ClaraAeTitle",
    words="Clara AE title",
    key="name or AE title",
    check=checks.clara_ae_title,
    named=True,
    optional=("name",),
    example={
        "name": "COVIDAET",
        "aeTitle": "COVIDAET",
        "overwriteSameInstance": False,
        "ignoredSopClasses": ["1.2.840.10008.5.1.4.1.1.7"],
        "allowedSources": [],
        "processor": DEFAULT_PROCESSOR,
        "processorSettings": {"timeout": "5", "groupBy": "0020,000D", "pipeline-covid": "db3a6b1b5d3f4b6e9d0d"},
        "interrupted": None,
    },
    resource_example={
        "name": "clara-brain-tumor",
        "pipelineId": "7b9cda79ed834fdc87cd4169216c4011",
        "aeTitle": "BrainTumorModel",
        "timeout": 0,
    },
)
SOURCES: Final = Kind(
    route="sourceaetitle",
    entity=Source,
    name="Source",
    words="source",
    key="AE title",
    check=checks.source,
    named=False,
    optional=(),
    example={"aeTitle": "MYPACS", "hostIp": "10.20.30.1"},
    resource_example={"hostIp": "1.2.3.4", "aeTitle": "Orthanc"},
)
DESTINATIONS: Final = Kind(
    route="destinationaetitle",
    entity=Destination,
    name="Destination",
    words="destination",
    key="name or AE title",
    check=checks.destination,
    named=True,
    optional=(),
    example={
        "name": "MYPACS",
        "aeTitle": "MYPACSAET",
        "hostIp": "10.20.30.2",
        "port": 1104,
        "maximumAssociations": 2,
        "tls": {
            "caFile": "/etc/clara/pacs-ca.pem",
            "certificateFile": None,
            "keyFile": None,
            "serverName": "pacs.hospital",
        },
    },
    resource_example={"name": "pacs", "hostIp": "10.20.30.40", "aeTitle": "ARCHIVEX", "port": 104},
)
KINDS: Final[tuple[AnyKind, ...]] = (CLARA_AE_TITLES, SOURCES, DESTINATIONS)
