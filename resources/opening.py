"""Opens the configuration where the settings say it is kept."""

import time
from collections.abc import Callable
from typing import Any, Final

from clara_dicom_adapter.configuration.chosen import ChosenConfiguration, Configuration
from clara_dicom_adapter.configuration.settings import DataFolder, Settings

_START_SECONDS: Final = 2.0
"""How long a start waits for the API server; what is known later is taken up then."""


def chosen(settings: Settings) -> bool:
    """Whether any kind is kept as Kubernetes resources."""
    scp = settings.dicom.scp
    return scp.read_ae_titles_from_crd or scp.read_sources_from_crd or settings.dicom.scu.read_destinations_from_crd


class OpenConfiguration:
    """A configuration, and what runs behind it until it is closed."""

    def __init__(
        self,
        configuration: Configuration,
        close: Callable[[], None] = lambda: None,
        warnings: Callable[[], list[str]] = list,
    ) -> None:
        self.configuration = configuration
        self.close = close
        self.warnings = warnings
        """Why what is at hand may be old, for people."""


def open_configuration(
    settings: Settings,
    sql: Callable[[], Configuration],
    data: DataFolder,
    *,
    watch: bool = True,
    report: bool = False,
) -> OpenConfiguration:
    """The configuration as the settings choose it.

    Args:
        sql: Opens the SQL store; not called here unless nothing is kept elsewhere.
        data: Copies of what was read last lie here.
        watch: Follow every change until closed, as parts do; otherwise each call asks anew, as commands do.
        report: Write status conditions, unless the settings say not to; one process of a site does.

    Raises:
        KubernetesUnavailable: It is not known where the API server is.
    """
    if not chosen(settings):
        return OpenConfiguration(sql())
    # only who needs the library pays for its import
    from clara_dicom_adapter.resources.keeping import Keeper  # noqa: PLC0415
    from clara_dicom_adapter.resources.kept import KeptAsResources  # noqa: PLC0415
    from clara_dicom_adapter.resources.kinds import CLARA_AE_TITLE, DESTINATION, SOURCE, Kind  # noqa: PLC0415
    from clara_dicom_adapter.resources.server import Cluster, ResourceServer  # noqa: PLC0415

    cluster = Cluster(settings.kubernetes)
    keeper = Keeper(report=report and settings.kubernetes.report_status)
    folder = data.root / "resources"
    kept: list[KeptAsResources[Any]] = []

    def keep(kind: Kind[Any], wanted: bool) -> KeptAsResources[Any] | None:
        if not wanted:
            return None
        copy = folder / f"{kind.plural}.json" if watch else None
        kept.append(KeptAsResources(kind, ResourceServer(cluster, kind), copy, keeper.changed))
        return kept[-1]

    configuration = ChosenConfiguration(
        sql,
        settings.dicom.scp,
        settings.storage,
        ae_titles=keep(CLARA_AE_TITLE, settings.dicom.scp.read_ae_titles_from_crd),
        sources=keep(SOURCE, settings.dicom.scp.read_sources_from_crd),
        destinations=keep(DESTINATION, settings.dicom.scu.read_destinations_from_crd),
    )
    if not watch:
        return OpenConfiguration(configuration)
    for each in kept:
        each.start()
    deadline = time.monotonic() + _START_SECONDS
    for each in kept:
        each.watched.wait(max(deadline - time.monotonic(), 0))
    keeper.start(kept)

    def close() -> None:
        keeper.stop()
        for each in kept:
            each.stop()

    def warnings() -> list[str]:
        return [
            f"{each.kind.plural} are those that were known before: {each.watched.trouble}"
            for each in kept
            if each.watched.trouble is not None
        ]

    return OpenConfiguration(configuration, close, warnings)
