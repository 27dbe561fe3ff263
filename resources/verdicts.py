"""Which resources are in force: judged all together, from nothing but what they say now.

The same resources give the same verdicts on every node and after every restart. Of two that claim the same, the older
one has it; when it goes, the other takes its place. One that is not accepted never keeps another from being so, unless
the other claims what it rightly has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic

from clara_dicom_adapter.errors import ConfigurationInvalid
from clara_dicom_adapter.resources.kinds import EntityT, Kind, Resource, name_of

CONDITION: Final = "Accepted"
_LONGEST_MESSAGE: Final = 1024


class Reason(StrEnum):
    """Why a resource is accepted or not; of Kubernetes' form for reasons."""

    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    CONFLICT = "Conflict"


@dataclass(frozen=True)
class Verdict(Generic[EntityT]):
    """What is thought of one resource.

    Attributes:
        entity: What it says, when it is accepted.
    """

    resource: Resource
    reason: Reason
    message: str
    entity: EntityT | None = None

    @property
    def name(self) -> str:
        return name_of(self.resource)

    @property
    def generation(self) -> int:
        """Grows with every change of what the resource says."""
        return int(self.resource["metadata"].get("generation", 0))

    @property
    def condition(self) -> dict[str, Any]:
        """The status condition, without the time."""
        return {
            "type": CONDITION,
            "status": "True" if self.entity is not None else "False",
            "reason": self.reason.value,
            "message": self.message[:_LONGEST_MESSAGE],
            "observedGeneration": self.generation,
        }


class Judge(Generic[EntityT]):
    """Judges the resources of one kind; remembers what it has understood, because most of them do not change."""

    def __init__(self, kind: Kind[EntityT]) -> None:
        self._kind = kind
        self._understood: dict[tuple[str, int], EntityT | str] = {}

    def judge(self, resources: Iterable[Resource]) -> Mapping[str, Verdict[EntityT]]:
        """A verdict for each, by the resource's name."""
        taken: dict[str, str] = {}
        understood: dict[tuple[str, int], EntityT | str] = {}
        verdicts: dict[str, Verdict[EntityT]] = {}
        for resource in sorted(resources, key=age):
            key = (str(resource["metadata"]["uid"]), int(resource["metadata"].get("generation", 0)))
            found = understood[key] = self._understood.get(key) or self._understand(resource)
            verdict = self._verdict(resource, found, taken)
            if verdict.entity is not None:
                taken.update(dict.fromkeys(self._kind.claims(verdict.entity), verdict.name))
            verdicts[verdict.name] = verdict
        self._understood = understood
        return verdicts

    def _understand(self, resource: Resource) -> EntityT | str:
        try:
            return self._kind.entity(resource)
        except ConfigurationInvalid as error:
            return str(error)

    def _verdict(self, resource: Resource, found: EntityT | str, taken: Mapping[str, str]) -> Verdict[EntityT]:
        if isinstance(found, str):
            return Verdict(resource, Reason.INVALID, found)
        for claim in self._kind.claims(found):
            if claim in taken:
                message = f"{claim} belongs to {self._kind.name} {taken[claim]} already, which is older."
                return Verdict(resource, Reason.CONFLICT, message)
        return Verdict(resource, Reason.ACCEPTED, "In force.", found)


def age(resource: Resource) -> tuple[str, str]:
    """Oldest first; the name decides between two of one second."""
    return str(resource["metadata"].get("creationTimestamp", "")), name_of(resource)
