"""The thread that keeps what follows from the resources up to date: their status conditions, and the copies on disk."""

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from clara_dicom_adapter.errors import ConfigurationInvalid, KubernetesUnavailable, NotFound
from clara_dicom_adapter.resources.kept import KeptAsResources
from clara_dicom_adapter.resources.kinds import Resource
from clara_dicom_adapter.resources.verdicts import CONDITION, Verdict, age

log = structlog.get_logger("clara_dicom_adapter.resources")

_SETTLE_SECONDS: Final = 0.1
"""Changes come in bursts; all of one are looked at together."""
_AT_ONCE: Final = 50
"""So many conditions of a kind are written before everything is judged anew: of thousands that came at once, the rest
must keep nobody waiting who has just changed one."""
_AGAIN_SECONDS: Final = 2.0
"""Until a status that could not be written is tried again."""


class Keeper:
    """Keeps up with the changes of all kinds.

    Args:
        report: Whether to write status conditions.
    """

    def __init__(self, *, report: bool) -> None:
        self._report = report
        self._kinds: list[KeptAsResources[Any]] = []
        self._saved: dict[str, int] = {}
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)
        self._refused = False
        self._more = False

    def changed(self) -> None:
        """To be told of every change."""
        self._changed.set()

    def start(self, kinds: list[KeptAsResources[Any]]) -> None:
        self._kinds = kinds
        self._changed.set()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()
        self._thread.join(_AGAIN_SECONDS)

    def _run(self) -> None:
        again = False
        while not self._stopping.is_set():
            self._changed.wait(_AGAIN_SECONDS if again else None)
            self._changed.clear()
            self._stopping.wait(_SETTLE_SECONDS)
            again = bool([kind for kind in self._kinds if not self._keep(kind)])  # every kind has its turn
            if self._more:
                self._more = False
                self._changed.set()

    def _keep(self, kept: KeptAsResources[Any]) -> bool:
        """Save and report one kind; False when it has to be tried again."""
        if self._stopping.is_set():
            return True
        try:
            verdicts = kept.verdicts()
        except KubernetesUnavailable:
            return False
        if self._saved.get(kept.kind.plural) != kept.watched.number:
            self._saved[kept.kind.plural] = kept.watched.number
            kept.watched.save()
        if not self._report or kept.watched.trouble is not None:
            return not self._report
        waiting = untold(verdicts.values())
        failed = [verdict for verdict in waiting[:_AT_ONCE] if not self._tell(kept, verdict)]
        self._more |= not failed and len(waiting) > _AT_ONCE
        return not failed

    def _tell(self, kept: KeptAsResources[Any], verdict: Verdict[Any]) -> bool:
        """Write a resource's condition where it says something else; False when that has to be tried again."""
        conditions = told(verdict)
        if conditions is None:
            return True
        try:
            kept.watched.update(kept.server.report(verdict.resource, conditions))
        except NotFound:
            return True  # it is gone, and the watch will say so
        except ConfigurationInvalid:
            return False  # it has changed meanwhile
        except KubernetesUnavailable as error:
            if not self._refused:
                log.warning("status_not_written", kind=kept.kind.name, name=verdict.name, reason=str(error))
            self._refused = True
            return False
        self._refused = False
        if verdict.entity is None:
            log.warning("resource_not_accepted", kind=kept.kind.name, name=verdict.name, reason=verdict.message)
        return True


def untold(verdicts: Iterable[Verdict[Any]]) -> list[Verdict[Any]]:
    """Those whose resources do not have their condition yet: who has just changed one first, then the newest."""
    found = [verdict for verdict in verdicts if told(verdict) is not None]
    return sorted(found, key=lambda verdict: (_mine(verdict.resource) != {}, age(verdict.resource)), reverse=True)


def told(verdict: Verdict[Any], now: datetime | None = None) -> list[dict[str, Any]] | None:
    """The conditions that a resource is to have, others than ours as they are; None when it has them."""
    conditions = _conditions(verdict.resource)
    mine = _mine(verdict.resource)
    wanted = verdict.condition
    if all(mine.get(key) == value for key, value in wanted.items()):
        return None
    since = mine.get("lastTransitionTime")
    if since is None or mine.get("status") != wanted["status"]:
        since = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    others = [each for each in conditions if each.get("type") != CONDITION]
    return [*others, {**wanted, "lastTransitionTime": since}]


def _mine(resource: Resource) -> dict[str, Any]:
    return next((each for each in _conditions(resource) if each.get("type") == CONDITION), {})


def _conditions(resource: Resource) -> list[dict[str, Any]]:
    return list((resource.get("status") or {}).get("conditions") or [])
