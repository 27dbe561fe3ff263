"""How an installation is: what ``clara dicom status`` shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from clara_dicom_adapter.api.parts import RunFolder
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.cli.running import PartStatus, is_locked
from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.records.listing import Listing, Subject
from clara_dicom_adapter.spool import Spool, SpoolRole, SpoolUsage
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import ReceptionState


@dataclass(frozen=True)
class PartCondition:
    """One part: what its supervisor knows of it, and what it says of itself."""

    name: str
    state: str
    health: str
    """What the part answers when it is asked; empty when it was not."""
    pid: int | None
    started_at: float | None
    restarts: int
    last_exit: str
    addresses: Mapping[str, str]


@dataclass(frozen=True)
class Condition:
    """Everything at once.

    Attributes:
        spool: None when nothing was ever spooled here.
        waiting: What waits for a person, by kind; empty when the records cannot be read.
    """

    data_dir: str
    running: bool
    state: str
    pid: int | None = None
    reason: str = ""
    parts: tuple[PartCondition, ...] = ()
    spool: SpoolUsage | None = None
    waiting: Mapping[str, int] = field(default_factory=dict[str, int])
    temporal_ui: str = ""

    @classmethod
    def of(cls, place: Place) -> Self:
        """Look; what cannot be had is left out, because a person asks this when something is wrong."""
        status = place.status
        running = is_locked(place.data)
        health = _health(place) if running else {}
        return cls(
            data_dir=str(place.data.root),
            running=running,
            state=status.state.value if status else "never started",
            pid=status.pid if status and running else None,
            reason=status.reason if status else "",
            parts=tuple(_part(part, health.get(part.name, "")) for part in (status.parts if status else ())),
            spool=_spool(place),
            waiting=_waiting(place),
            temporal_ui=place.addresses.get("temporal_ui", "") or place.settings.services.temporal.web_ui_address or "",
        )


def _part(part: PartStatus, health: str) -> PartCondition:
    return PartCondition(
        name=part.name,
        state=part.state.value,
        health=health,
        pid=part.pid,
        started_at=part.started_at,
        restarts=part.restarts,
        last_exit=part.last_exit,
        addresses=part.addresses,
    )


def _health(place: Place) -> dict[str, str]:
    folder = RunFolder(place.data.root / "run")
    try:
        return {report.role: "ready" if report.ready else report.reason for report in folder.reports()}
    finally:
        folder.close()


def _spool(place: Place) -> SpoolUsage | None:
    if not (place.spool / "node.json").exists():
        return None
    try:
        with Spool.open(place.spool, SpoolRole.TOOL) as spool:
            return spool.usage()
    except AdapterError:
        return None


def _waiting(place: Place) -> dict[str, int]:
    if not place.data.root.is_dir():
        return {}
    try:
        with place.database() as engine:
            listing = Listing(engine)
            return {
                "quarantined": listing.counts(Subject.RECEPTION).get(ReceptionState.QUARANTINED.value, 0),
                "submissions": listing.counts(Subject.SUBMISSION).get(State.NEEDS_ATTENTION.value, 0),
                "exports": listing.counts(Subject.EXPORT).get(State.NEEDS_ATTENTION.value, 0),
            }
    except AdapterError:
        return {}
