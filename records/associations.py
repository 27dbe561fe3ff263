"""What associations there have been, rejected ones too."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Protocol

from sqlalchemy import Engine

from clara_dicom_adapter.records.receptions import name_receptions
from clara_dicom_adapter.records.tables import AssociationRow
from clara_dicom_adapter.records.upsert import upsert
from clara_dicom_adapter.workflows.models import AssociationOutcome

OPEN: Final = "open"
REJECTED: Final = "rejected"
_OF_ITS_END: Final = ("state", "ended_at", "instances", "bytes", "failed", "refused", "ignored")


class Association(Protocol):
    """An association as the receiver knows it."""

    @property
    def association_id(self) -> str: ...
    @property
    def calling_ae_title(self) -> str: ...
    @property
    def called_ae_title(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def instances(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def ignored(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def refused(self) -> int: ...


class Request(Protocol):
    """What an association was asked for with."""

    @property
    def calling_ae_title(self) -> str: ...
    @property
    def called_ae_title(self) -> str: ...
    @property
    def peer(self) -> str: ...


class Reason(Protocol):
    """Why one was rejected, in a word and in codes of PS3.8 table 9-21."""

    @property
    def word(self) -> str: ...
    @property
    def codes(self) -> tuple[int, int, int]: ...


class AssociationChanges:
    """Changes of the records; each may be repeated, and may come in any order."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self.begun: dict[str, dict[str, Any]] = {}
        self.ends: dict[str, dict[str, Any]] = {}

    def accepted(self, association: Association) -> None:
        """It was accepted; changes nothing when its end is recorded already."""
        self.begun[association.association_id] = self._row(association, OPEN)

    def ended(self, association: Association, outcome: AssociationOutcome, at: datetime) -> None:
        """It is over; this tells everything about it, so that a lost beginning does no harm."""
        self.ends[association.association_id] = self._row(association, outcome.value) | {"ended_at": at}

    def rejected(self, association_id: str, request: Request, reason: Reason, at: datetime) -> None:
        """It was rejected."""
        result, source, diagnostic = reason.codes
        self.begun[association_id] = self._common(association_id, request, at) | {
            "state": REJECTED,
            "ended_at": at,
            "reject_result": result,
            "reject_source": source,
            "reject_reason": diagnostic,
            "reason": reason.word,
        }

    def _common(self, association_id: str, request: Request, started_at: datetime) -> dict[str, Any]:
        return {
            "association_id": association_id,
            "node_id": self._node_id,
            # what a peer calls itself is not checked before it is rejected
            "calling_ae_title": _plain(request.calling_ae_title),
            "called_ae_title": _plain(request.called_ae_title),
            "peer": request.peer,
            "started_at": started_at,
            **dict.fromkeys(("instances", "bytes", "failed", "refused", "ignored"), 0),
            **dict.fromkeys(("ended_at", "reject_result", "reject_source", "reject_reason")),
            "reason": "",
        }

    def _row(self, association: Association, state: str) -> dict[str, Any]:
        return self._common(association.association_id, association, association.started_at) | {
            "state": state,
            "instances": association.instances,
            "bytes": association.bytes,
            "failed": association.failed,
            "refused": association.refused,
            "ignored": association.ignored,
        }


class AssociationRecords:
    """Written by the receiver."""

    def __init__(self, engine: Engine, node_id: str = "") -> None:
        self._engine = engine
        self._node_id = node_id

    @contextmanager
    def together(self) -> Iterator[AssociationChanges]:
        """Takes changes, and makes all of them in one transaction when it ends without an exception."""
        changes = AssociationChanges(self._node_id)
        yield changes
        begun = [row for association_id, row in changes.begun.items() if association_id not in changes.ends]
        with self._engine.begin() as connection:
            upsert(connection, AssociationRow, begun)
            upsert(connection, AssociationRow, list(changes.ends.values()), _OF_ITS_END)
            name_receptions(connection, [*changes.begun, *changes.ends])


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:64]
