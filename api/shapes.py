"""What a shape of the configuration's JSON is, and its media type."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from clara_dicom_adapter.api.kinds import AnyKind
from clara_dicom_adapter.configuration.entities import Entity
from clara_dicom_adapter.configuration.settings import Dialect

JSON: Final = "application/json"
VENDOR: Final = "application/vnd.clara.dicom.v"


class Shape(ABC):
    """How entities are written as JSON."""

    dialect: Dialect
    created_status: int
    """Of the answer to a POST."""

    @abstractmethod
    def read(self, kind: AnyKind, body: object, name: str | None = None) -> Entity:
        """The entity of a body; raises ConfigurationInvalid.

        Args:
            name: Of the entity whose place it takes; counts where the body names none.
        """

    @abstractmethod
    def listed(self, kind: AnyKind, entities: Sequence[Entity]) -> object:
        """All of a kind."""

    @abstractmethod
    def one(self, kind: AnyKind, entity: Entity) -> object:
        """One of them."""

    @abstractmethod
    def removed(self, kind: AnyKind, entity: Entity) -> object:
        """The answer to a DELETE."""

    @abstractmethod
    def error(self, status: int, title: str, detail: str) -> tuple[object, str]:
        """An error, and its media type."""

    @abstractmethod
    def examples(self, kind: AnyKind) -> "Examples":
        """For OpenAPI."""

    @abstractmethod
    def schemas(self, kind: AnyKind) -> "Examples":
        """For OpenAPI: JSON schemas of the same."""


@dataclass(frozen=True)
class Examples:
    """One thing for each document of a shape."""

    body: Any
    one: Any
    listed: Any
    removed: Any


def media_type_of(dialect: Dialect) -> str:
    """The vendor media type of a dialect."""
    return f"{VENDOR}{dialect.value}+json"
