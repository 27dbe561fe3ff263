"""How an installation is: what ``clara dicom status`` shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from clara_dicom_adapter.api.parts import PartReport, RunFolder
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.cli.running import PartState, PartStatus, is_locked
from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.part_status import PartFile, read_all
from clara_dicom_adapter.records.listing import Listing, Subject
from clara_dicom_adapter.spool import Spool, SpoolRole, SpoolUsage
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import ReceptionState

ALONE = "parts alone"
"""State of an installation of which parts run that ``start`` has not started."""


@dataclass(frozen=True)
class PartCondition:
    """One part: what its supervisor knows of it, or its own file, and what it says of itself."""

    name: str
    state: str
    health: str
    """What the part answers when it is asked; empty when it was not."""
    pid: int | None
    started_at: float | None
    restarts: int
    last_exit: str
    addresses: Mapping[str, str]
    alone: bool = False
    """Whether it was started by itself, and not by ``start``."""
    warnings: Sequence[str] = ()
    status: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What it says of itself, in full."""


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
        supervised = is_locked(place.data)
        files = {file.part: file for file in read_all(place.data.run)}
        anything = any(file.alive for file in files.values())
        reports = _reports(place) if supervised or anything else {}
        parts = [_part(part, reports.get(part.name)) for part in (status.parts if status and supervised else ())]
        if anything:
            known = {part.name for part in parts}
            parts += [_alone(file, reports.get(name)) for name, file in files.items() if name not in known]
        elif status and not supervised:
            parts = [_part(part, None) for part in status.parts]
        state = status.state.value if status else "never started"
        addresses = {service: address for part in parts if part.pid for service, address in part.addresses.items()}
        return cls(
            data_dir=str(place.data.root),
            running=supervised or anything,
            state=ALONE if anything and not supervised else state,
            pid=status.pid if status and supervised else None,
            reason=status.reason if status and (supervised or not anything) else "",
            parts=tuple(parts),
            spool=_spool(place),
            waiting=_waiting(place),
            temporal_ui=addresses.get("temporal_ui", "") or place.settings.services.temporal.web_ui_address or "",
        )


def _part(part: PartStatus, report: PartReport | None) -> PartCondition:
    return PartCondition(
        name=part.name,
        state=part.state.value,
        health=_health(report),
        pid=part.pid,
        started_at=part.started_at,
        restarts=part.restarts,
        last_exit=part.last_exit,
        addresses=part.addresses,
        warnings=report.warnings if report else (),
        status=report.status if report else {},
    )


def _alone(file: PartFile, report: PartReport | None) -> PartCondition:
    """A part by the file that it wrote when it was ready."""
    alive = file.alive
    return PartCondition(
        name=file.part,
        state=PartState.READY.value if alive else PartState.STOPPED.value,
        health=_health(report),
        pid=file.pid if alive else None,
        started_at=file.started_at if alive else None,
        restarts=0,
        last_exit="" if alive else "ended without saying so",
        addresses=file.addresses,
        alone=True,
        warnings=report.warnings if report else (),
        status=report.status if report else {},
    )


def _health(report: PartReport | None) -> str:
    if report is None:
        return ""
    return "ready" if report.ready else report.reason


def _reports(place: Place) -> dict[str, PartReport]:
    folder = RunFolder(place.data.run)
    try:
        return {report.part: report for report in folder.reports()}
    finally:
        folder.close()


def _spool(place: Place) -> SpoolUsage | None:
    if not (place.spool / "node.json").exists():
        return None
    try:
        with Spool.open(place.spool, SpoolRole.TOOL) as spool:
            return spool.usage()
    except (AdapterError, OSError):
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
    except (AdapterError, OSError):
        return {}
