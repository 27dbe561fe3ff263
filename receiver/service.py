"""The receiver as a whole: put together, started, stopped, and asked how it is."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from clara_dicom_adapter.configuration.settings import ScpTlsSettings, StorageSettings
from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.receiver.acceptance import RejectReason
from clara_dicom_adapter.receiver.addressing import Addressing
from clara_dicom_adapter.receiver.certificates import CertificateKeeper
from clara_dicom_adapter.receiver.delivery import Connect
from clara_dicom_adapter.receiver.hand_over import HandOver
from clara_dicom_adapter.receiver.known import ConfigurationSource, KnownKeeper
from clara_dicom_adapter.receiver.listeners import Listeners
from clara_dicom_adapter.receiver.live import LiveAssociation, LiveAssociations
from clara_dicom_adapter.receiver.metrics import ReceiverMetrics
from clara_dicom_adapter.receiver.pace import OpenAssociation, Pace
from clara_dicom_adapter.receiver.parked import ParkedAlarm
from clara_dicom_adapter.receiver.preparing import Preparing
from clara_dicom_adapter.receiver.recorder import AssociationRecords, Recorder
from clara_dicom_adapter.receiver.recovery import Recovery
from clara_dicom_adapter.receiver.reports import Accepted, Ended, Progress, Rejected, Report, TlsFailed
from clara_dicom_adapter.receiver.site import SiteKey
from clara_dicom_adapter.receiver.space import SpaceGate
from clara_dicom_adapter.spool import AssociationFolder, Spool
from clara_dicom_adapter.spool.node import SITE_KEY
from clara_dicom_adapter.spool.space import StorageSpace
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

_KNOWN_COPY = "known.json"
_HAND_OVER_SECONDS = 5.0
_HAND_OVER_SECONDS_WITHOUT_TEMPORAL = 0.5
"""Enough to make the batches, so that the next start need not."""
_RECORDS_SECONDS = 2.0


@dataclass(frozen=True)
class ReceiverHealth:
    """The truth about the receiver."""

    listeners: int
    """Listener processes that there are to be."""
    listening: int
    """How many of them listen now."""
    listener_pids: tuple[int, ...]
    can_store: bool
    configured: bool
    """Whether it knows AE titles and sources, from the configuration or its copy."""
    configuration_reachable: bool
    temporal_reachable: bool
    open_associations: int
    waiting_to_be_told: int
    """Workflows that are to be told of batches."""
    parked_near_watermark: str = ""
    """What is parked on a disk that is nearly full; empty when nothing is, or there is room."""
    certificates: tuple[str, ...] = ()
    """What somebody should look after in the files of TLS."""

    @property
    def ready(self) -> bool:
        """Ready is who can store, Temporal or not."""
        return self.listening > 0 and self.can_store and self.configured

    @property
    def warnings(self) -> list[str]:
        """What somebody should look after although it works."""
        fewer = 0 < self.listening < self.listeners
        listeners = f"{self.listening} of {self.listeners} listener processes listen" if fewer else ""
        return [warning for warning in (listeners, self.parked_near_watermark, *self.certificates) if warning]


class ReceiverService:
    """Keeps a spool that is open for :attr:`~clara_dicom_adapter.spool.SpoolRole.RECEIVER`: listens, and hands over."""

    def __init__(
        self,
        listeners: Listeners,
        storage: StorageSettings,
        spool: Spool,
        *,
        configuration: ConfigurationSource,
        associations: AssociationRecords,
        site_secret: Callable[[], str],
        connect: Connect,
        tls: ScpTlsSettings | None = None,
        space: Callable[[], object] | None = None,
    ) -> None:
        """Args:
        site_secret: Gives the secret of the records in hex (``records.secret.SiteSecret.get_or_create``).
        connect: Makes a Temporal client; may raise for as long as it likes.
        tls: Whose certificates the listeners are told of; none: there is no TLS.
        space: Raises StorageFull when nothing may be stored; none: the storage rule for the spool's disk.
        """
        self.metrics = ReceiverMetrics(listeners.configured)
        self._spool = spool
        self._listeners = listeners
        self._known = KnownKeeper(configuration, spool.root / _KNOWN_COPY, changed=listeners.know)
        self._certificates = CertificateKeeper(tls, listeners.use) if tls is not None and tls.enabled else None
        self._recorder = Recorder(associations)
        rule = StorageSpace(spool.root, storage)
        self._can_store = SpaceGate(space or rule.check)
        self._parked = ParkedAlarm(rule.measure, spool.usage)
        addressing = Addressing(SiteKey(spool.root / SITE_KEY, site_secret))
        self._live = LiveAssociations()
        self._pace = Pace()
        self._hand_over = HandOver(spool, addressing, connect, self._live, self.metrics)
        self._recovery = Recovery(
            spool,
            addressing,
            self._hand_over,
            storage.reconcile_interval_seconds,
            closed=lambda folder: self._recorder.ended(*_ended_live(folder)),
            looked=self._parked,
        )
        prepared = storage.prepared_space_mb * 1_000_000
        self._preparing = Preparing(
            spool.preparer(
                prepared,
                room=lambda: rule.measure().room_bytes,
                listeners=listeners.configured,
            )
        )
        self._stopped = threading.Event()
        self._watch(spool)

    @property
    def port(self) -> int:
        """The plain port that is listened on."""
        return self._listeners.port

    @property
    def tls_port(self) -> int:
        """The port of TLS that is listened on."""
        return self._listeners.tls_port

    def start(self) -> None:
        """Close what an earlier run left open, then listen; raises OSError when the port cannot be had."""
        self._known.start()
        if self._certificates is not None:
            self._certificates.start()
        self._spool.remove_unbegun()
        self._recovery.close_abandoned()
        self._preparing.start()
        self._recorder.start()
        self._hand_over.start()
        self._listeners.start(self, self._known.copy)
        self._recovery.start()

    def stop(self, grace_seconds: float) -> None:
        """Let associations finish within the grace period, abort the rest, and hand over what can be handed over."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._listeners.stop(grace_seconds)
        self._preparing.stop()
        self._recovery.stop()
        reachable = self._hand_over.delivery.reachable
        if not self._hand_over.stop(_HAND_OVER_SECONDS if reachable else _HAND_OVER_SECONDS_WITHOUT_TEMPORAL):
            log.info("hand_over_left_to_next_start", waiting=self._hand_over.delivery.waiting)
        self._recorder.stop(_RECORDS_SECONDS)
        self._known.stop()
        if self._certificates is not None:
            self._certificates.stop()

    def look_at_certificates(self) -> None:
        """Take renewed ones now, and not within a few seconds."""
        if self._certificates is not None:
            self._certificates.look(at_once=True)

    # ---- what listeners report; called from a thread for each ----

    def hear(self, listener: int, report: Report) -> None:
        """A report has come."""
        if isinstance(report, Accepted):
            live = replace(report.association, listener=listener)
            self._live.put(live)
            self._pace.read(live)
            self._recorder.accepted(report.association)
        elif isinstance(report, Rejected):
            reason = RejectReason[report.reason]
            self.metrics.rejected.labels(reason.word).inc()
            self._recorder.rejected(report.association_id, report.request, reason, report.at)
        elif isinstance(report, Progress):
            for told in report.associations:
                live = replace(told, listener=listener)
                known = self._live.update(live)
                if known is not None:  # else its end has overtaken this
                    self._moved(known, live)
                    self._pace.read(live)
        elif isinstance(report, TlsFailed):
            self.metrics.tls_failures.labels(report.failure).inc()
        elif isinstance(report, Ended):
            live = replace(report.association, listener=listener)
            self._moved(self._live.remove(live.association_id), live)
            self._ended(live, report.outcome, report.at)

    def dying(self, listener: int) -> None:
        """A listener says no more: its senders may come back at once, and must not overtake what they had sent."""
        del listener
        self._hand_over.hold_back()

    def died(self, listener: int) -> None:
        """A listener has died, and with it its associations: it was our fault."""
        try:
            spooled = {folder.association_id: _ended_live(folder) for folder in self._recovery.close_abandoned()}
            for live in self._live.snapshot():
                if live.listener == listener:
                    self._live.remove(live.association_id)
                    self._pace.forget(live.association_id)
                    live, outcome, at = self._as_the_spool_tells(live)  # noqa: PLW2901 - the better informed
                    self.metrics.associations.labels(outcome.value).inc()
                    self._recorder.ended(live, outcome, at)
                    if live.spooled:
                        spooled[live.association_id] = live, outcome, at
            self._hand_over.broken_off(
                (association_id, outcome, live.failed) for association_id, (live, outcome, _) in spooled.items()
            )
        finally:
            self._hand_over.go_on()

    def _as_the_spool_tells(self, live: LiveAssociation) -> tuple[LiveAssociation, AssociationOutcome, datetime]:
        """What became of an association whose listener can tell no more, and may not have told that it stored."""
        try:
            return _ended_live(self._spool.association(live.association_id))
        except FileNotFoundError:  # it stored nothing, or nothing is left of it
            pass
        except (AdapterError, OSError) as error:
            log.warning("association_unusable", association_id=live.association_id, error=str(error)[:300])
        return live, AssociationOutcome.ADAPTER_STOPPED, datetime.now(UTC)

    def _moved(self, before: LiveAssociation | None, now: LiveAssociation) -> None:
        self.metrics.moved(before, now)
        if now.spooled:
            self._hand_over.stored(now.association_id)

    def _ended(self, live: LiveAssociation, outcome: AssociationOutcome, at: datetime) -> None:
        self._pace.forget(live.association_id)
        self.metrics.associations.labels(outcome.value).inc()
        self._recorder.ended(live, outcome, at)
        if live.spooled:
            self._hand_over.ended(live.association_id, outcome, live.failed)

    def associations(self) -> list[OpenAssociation]:
        """The open associations, oldest first."""
        return [self._pace.look(live, queued=self._hand_over.queued(live)) for live in self._live.snapshot()]

    def _of_listener(self, listener: int) -> list[LiveAssociation]:
        return [live for live in self._live.snapshot() if live.listener == listener]

    def health(self) -> ReceiverHealth:
        """How it is at this moment."""
        return ReceiverHealth(
            listeners=self._listeners.configured,
            listening=self._listeners.listening,
            listener_pids=tuple(self._listeners.pids),
            can_store=self._can_store(),
            configured=self._known.current is not None,
            configuration_reachable=self._known.reachable,
            temporal_reachable=self._hand_over.delivery.reachable,
            open_associations=len(self._live),
            waiting_to_be_told=self._hand_over.delivery.waiting,
            parked_near_watermark=self._parked(),
            certificates=tuple(self._certificates.warnings) if self._certificates is not None else (),
        )

    def _watch(self, spool: Spool) -> None:
        watch = self.metrics.watch
        each, count = self.metrics.watch_listeners, self._listeners.configured
        each(
            "clara_dicom_associations_open",
            "Associations open now, by listener",
            count,
            lambda listener: len(self._of_listener(listener)),
        )
        each(
            "clara_dicom_instances_queued",
            "Instances of open associations that Temporal has not been told of, by listener",
            count,
            lambda listener: sum(map(self._hand_over.queued, self._of_listener(listener))),
        )
        watch("clara_dicom_listeners", "Listener processes that listen", lambda: self._listeners.listening)
        watch("clara_dicom_receiver_ready", "1 when the receiver can store", lambda: float(self.health().ready))
        watch("clara_dicom_spool_instances", "Instances in the spool", lambda: spool.usage().instances)
        watch("clara_dicom_spool_bytes", "Bytes in the spool", lambda: spool.usage().bytes)
        watch("clara_dicom_spool_oldest_seconds", "Age of the oldest instance", lambda: spool.usage().oldest_seconds)
        watch("clara_dicom_spool_unhanded", "Instances not accepted by Temporal yet", lambda: spool.usage().unhanded)
        watch("clara_dicom_spool_parked", "Instances that have waited for an hour", lambda: spool.usage().parked)
        watch(
            "clara_dicom_parked_near_watermark",
            "1 when instances are parked on a disk that is nearly full",
            lambda: float(bool(self._parked())),
        )
        certificates = self._certificates
        if certificates is not None:
            watch(
                "clara_dicom_tls_certificate_expiry_timestamp_seconds",
                "When the certificate that senders are shown ends",
                lambda: certificates.expires_at,
            )


def _ended_live(folder: AssociationFolder) -> tuple[LiveAssociation, AssociationOutcome, datetime]:
    """An association that an earlier run left open, as the records take it."""
    facts, record = folder.facts, folder.outcome
    live = LiveAssociation(
        association_id=facts.association_id,
        calling_ae_title=facts.calling_ae_title,
        called_ae_title=facts.called_ae_title,
        peer=facts.peer,
        started_at=facts.started_at,
        spooled=True,
    )
    if record is None:
        return live, AssociationOutcome.ADAPTER_STOPPED, datetime.now(UTC)
    live.instances, live.bytes, live.failed = record.instances, record.bytes, record.failed_instances
    return live, record.outcome, record.ended_at
