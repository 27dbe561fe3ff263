"""A receiver with listener processes as it is installed, but without Temporal and database."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Source
from clara_dicom_adapter.configuration.settings import Durability, ScpSettings, StorageSettings
from clara_dicom_adapter.log import LogSetup
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.listeners import ListenerProcesses
from clara_dicom_adapter.receiver.reports import ListenerSetup
from clara_dicom_adapter.receiver.service import ReceiverService
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.models import PinnedAeTitle
from support.receiving import LOOPBACK, SECRET, Configured, Recorded, nobody


class Growing(Configured):
    """A configuration with more sources, that gets other AE titles."""

    def __init__(self, more_sources: Sequence[Source] = ()) -> None:
        super().__init__()
        self.added: list[str] = []
        self.more_sources = more_sources

    def revision(self) -> int:
        return 1 + len(self.added)

    def sources(self) -> list[Source]:
        return [*super().sources(), *self.more_sources]

    def ae_titles(self) -> list[tuple[ClaraAeTitle, PinnedAeTitle]]:
        return [
            *super().ae_titles(),
            *(
                (ClaraAeTitle(name=title, ae_title=title), self.ae.model_copy(update={"ae_title": title}))
                for title in self.added
            ),
        ]


class ListenerSite:
    def __init__(
        self, root: Path, storage: Mapping[str, object], sources: Sequence[Source], scp: Mapping[str, object]
    ) -> None:
        settings = ScpSettings.model_validate({"port": 0, "host": LOOPBACK, "receivers": 2, **scp})
        given = StorageSettings.model_validate(
            {"watermarkPercent": 100, "reserveSpaceGB": 0, "preparedSpaceMB": 20, **storage}
        )
        self.spool = Spool.open(root, SpoolRole.RECEIVER)
        self.configured = Growing(sources)
        self.recorded = Recorded()

        filer = self.spool.filer(durable=given.durability is Durability.FLUSH)

        def setup(number: int, known: KnownCopy | None) -> ListenerSetup:
            return ListenerSetup(
                scp=settings,
                storage=given,
                spool=self.spool.root,
                number=number,
                listeners=settings.receivers,
                log=LogSetup(json=True),
                known=known,
            )

        self.listeners = ListenerProcesses(settings, setup, filer.make)
        self.service = ReceiverService(
            self.listeners,
            given,
            self.spool,
            configuration=self.configured,
            associations=self.recorded,
            site_secret=lambda: SECRET,
            connect=nobody,
            tls=settings.tls,
        )

    def pid_of(self, listener: int) -> int | None:
        """The process that is this listener at the moment; None while it is being replaced."""
        process = self.listeners._slots[listener].process
        return process.pid if process is not None and process.returncode is None else None

    def rejected(self) -> list[str]:
        """Why associations were rejected."""
        return [detail for _, kind, detail in self.recorded.lines if kind == "rejected"]

    def ended(self) -> list[str]:
        """What was recorded of ended associations."""
        return [detail for _, kind, detail in self.recorded.lines if kind == "ended"]


@contextmanager
def listening(
    root: Path, *, storage: Mapping[str, object] | None = None, sources: Sequence[Source] = (), **scp: object
) -> Iterator[ListenerSite]:
    """Listener processes that serve, with two of them on IPv4's loopback unless ``scp`` says something else."""
    site = ListenerSite(root / "spool", storage or {}, sources, scp)
    site.service.start()
    try:
        yield site
    finally:
        site.service.stop(0)
        site.spool.close()
