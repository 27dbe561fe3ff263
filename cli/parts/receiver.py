"""The receiver as a part.

It starts with nothing but its spool: database and Temporal may be away, and are reached when they are back.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict

import structlog
from temporalio.client import Client

from clara_dicom_adapter.cli.parts.entry import Part
from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Source
from clara_dicom_adapter.configuration.importing import import_once
from clara_dicom_adapter.configuration.settings import Durability, ScpSettings
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.listeners import ListenerProcesses
from clara_dicom_adapter.receiver.pace import OpenAssociation
from clara_dicom_adapter.receiver.reports import ListenerSetup
from clara_dicom_adapter.receiver.service import ReceiverHealth, ReceiverService
from clara_dicom_adapter.records.associations import AssociationChanges, AssociationRecords
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.secret import SiteSecret
from clara_dicom_adapter.resources.opening import OpenConfiguration, open_configuration
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.temporal import client as temporal
from clara_dicom_adapter.temporal.exit import StopSignal
from clara_dicom_adapter.temporal.ports import host_and_port
from clara_dicom_adapter.workflows.models import PinnedAeTitle

log = structlog.get_logger("clara_dicom_adapter.receiver")


class LateDatabase:
    """Configuration and records that are opened at the first call that succeeds; until then each call raises."""

    def __init__(self, part: Part, node_id: str) -> None:
        self._part = part
        self._node_id = node_id
        self._opening = threading.Lock()
        self._opened: tuple[ConfigurationStore, AssociationRecords, SiteSecret] | None = None
        self._configuration: OpenConfiguration | None = None

    def close(self) -> None:
        if self._configuration is not None:
            self._configuration.close()

    @property
    def warnings(self) -> list[str]:
        return self._configuration.warnings() if self._configuration is not None else []

    @property
    def _configured(self) -> Configuration:
        """What is kept as resources needs no database."""
        if self._configuration is None:
            self._configuration = open_configuration(self._part.settings, lambda: self._open()[0], self._part.data)
        return self._configuration.configuration

    def _open(self) -> tuple[ConfigurationStore, AssociationRecords, SiteSecret]:
        with self._opening:
            if self._opened is None:
                settings = self._part.settings
                engine = open_engine(settings, self._part.data)
                import_once(engine, self._part.given)
                self._opened = (
                    ConfigurationStore(engine, settings.dicom.scp, settings.storage),
                    AssociationRecords(engine, self._node_id),
                    SiteSecret(engine),
                )
            return self._opened

    # ---- receiver.known.ConfigurationSource ----

    def revision(self) -> int:
        return self._configured.revision()

    def ae_titles(self) -> Sequence[tuple[ClaraAeTitle, PinnedAeTitle]]:
        return self._configured.ae_titles()

    def sources(self) -> Sequence[Source]:
        return self._configured.sources()

    # ---- receiver.recorder.AssociationRecords ----

    def together(self) -> AbstractContextManager[AssociationChanges]:
        return self._open()[1].together()

    def site_secret(self) -> str:
        return self._open()[2].get_or_create()


def serve(part: Part) -> int:
    """Receive until told to stop; associations in progress then have their grace."""
    settings = part.settings
    stopping = StopSignal()

    async def connect() -> Client:
        return await temporal.connect(settings.services.temporal, patience_seconds=0)  # who asks tries again

    temporary = settings.storage.temporary or part.data.payloads
    with closing(Spool.open(temporary / "spool", SpoolRole.RECEIVER)) as spool:
        database = LateDatabase(part, spool.node_id)

        filer = spool.filer(durable=settings.storage.durability is Durability.FLUSH)

        def setup(number: int, known: KnownCopy | None) -> ListenerSetup:
            return ListenerSetup(
                scp=settings.dicom.scp,
                storage=settings.storage,
                spool=spool.root,
                number=number,
                listeners=settings.dicom.scp.receivers,
                log=settings.log_setup,
                known=known,
            )

        listeners = ListenerProcesses(settings.dicom.scp, setup, filer.make)

        def read_again(levels: Mapping[str, str]) -> None:
            listeners.log_levels(levels)
            service.look_at_certificates()

        service = ReceiverService(
            listeners,
            settings.storage,
            spool,
            configuration=database,
            associations=database,
            site_secret=database.site_secret,
            connect=connect,
            tls=settings.dicom.scp.tls,
        )
        part.levels_changed = read_again
        try:
            service.start()
        except OSError as error:
            log.error("port_cannot_be_had", address=error.filename, reason=error.strerror)
            service.stop(0)
            return 1
        part.answers(
            lambda: _condition(service.health(), service.associations(), database.warnings), service.metrics.registry
        )
        part.ready(**_addresses(settings.dicom.scp, service))
        stopping.wait()
        service.stop(settings.dicom.scp.shutdown_grace_seconds)
        database.close()
    return 0


def _addresses(scp: ScpSettings, service: ReceiverService) -> dict[str, str]:
    ports = {}
    if scp.plain:
        ports["dicom"] = service.port
    if scp.tls.enabled:
        ports["dicom_tls"] = service.tls_port
    return {name: ", ".join(host_and_port(host, port) for host in scp.host) for name, port in ports.items()}


def _condition(
    health: ReceiverHealth, associations: Sequence[OpenAssociation], warnings: Sequence[str] = ()
) -> dict[str, object]:
    lacking = {
        f"none of its {health.listeners} listener processes listens": not health.listening,
        "there is no space, or the disk fails": not health.can_store,
        "it knows no configuration yet": not health.configured,
    }
    reason = ", ".join(text for text, true in lacking.items() if true)
    return {
        "ready": health.ready,
        "reason": reason,
        "warnings": [*health.warnings, *warnings],
        **asdict(health),
        "associations": [_told(association) for association in associations],
    }


def _told(association: OpenAssociation) -> dict[str, object]:
    return {**asdict(association), "started_at": association.started_at.isoformat()}
