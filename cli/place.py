"""One installation, as a command sees it: its data folder, its settings, and where its running parts are."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from clara_dicom_adapter.cli.defaults import pulled_settings
from clara_dicom_adapter.configuration.settings import DataFolder, Settings, TemporalSettings
from clara_dicom_adapter.errors import AdapterError, TemporalUnavailable

if TYPE_CHECKING:  # these take long to import, and not every command needs them
    from sqlalchemy import Engine

    from clara_dicom_adapter.cli.running import AdapterStatus
    from clara_dicom_adapter.configuration.chosen import Configuration
    from clara_dicom_adapter.configuration.reader import Reading


class Place:
    """Where everything of one installation is.

    Args:
        config: Settings file; none: the one that the adapter was last started with on this data folder, so that a
            command never looks into another database than the adapter does.
    """

    def __init__(self, data_dir: Path, config: Path | None = None) -> None:
        self.data = DataFolder(data_dir.expanduser().absolute())
        self.config = config.expanduser().absolute() if config else self._remembered()
        self.starting = False
        """Whether the adapter is to be started with the settings, so that more of them is looked at."""

    @property
    def _note(self) -> Path:
        return self.data.root / "config.path"

    def _remembered(self) -> Path | None:
        try:
            return Path(self._note.read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            return None

    def as_started(self) -> Self:
        """With the settings that ``clara dicom start`` would take: those of ``clara pull dicom``, when nobody named
        others and none are in the data folder."""
        if self.config is None and not (self.data.root / "appsettings.json").exists():
            self.config = pulled_settings()
        return self

    def remember_config(self) -> None:
        """Note with which settings the adapter is started."""
        self.data.root.mkdir(parents=True, exist_ok=True)
        if self.config is None:
            self._note.unlink(missing_ok=True)
        else:
            # a command that looks meanwhile must not find half a path
            part = self._note.with_suffix(f".{os.getpid()}.part")
            part.write_text(f"{self.config}\n", encoding="utf-8")
            part.replace(self._note)

    @cached_property
    def reading(self) -> "Reading":
        """The settings and how they came to be; raises ConfigurationInvalid."""
        from clara_dicom_adapter.configuration import reader

        return reader.read(self.config, self.data, os.environ, starting=self.starting)

    @property
    def settings(self) -> Settings:
        """Raises ConfigurationInvalid."""
        return self.reading.settings

    @cached_property
    def status(self) -> "AdapterStatus | None":
        """What the supervisor has written last; None when none ever ran here."""
        from clara_dicom_adapter.cli.running import read_status

        return read_status(self.data)

    @property
    def addresses(self) -> dict[str, str]:
        """Where the parts that run now listen, by service."""
        return self.status.addresses if self.status and any(part.pid for part in self.status.parts) else {}

    @property
    def spool(self) -> Path:
        """Folder of this node's spool."""
        return (self.settings.storage.temporary or self.data.payloads) / "spool"

    @contextmanager
    def database(self, *, create: bool = False) -> Iterator["Engine"]:
        """The configuration and the records.

        Args:
            create: Make a data folder that is not there; a command that only looks says instead that it looked in
                vain, because most likely the folder is another one.
        """
        from clara_dicom_adapter.configuration.importing import import_once
        from clara_dicom_adapter.records.database import open_engine

        if not create and not self.data.root.is_dir():
            raise AdapterError(
                f"there is no data folder {self.data.root}; say where it is with --data-dir or CLARA_DICOM_DATA_DIR"
            )
        engine = open_engine(self.settings, self.data)
        try:
            import_once(engine, self.reading.given)
            yield engine
        finally:
            engine.dispose()

    def configuration(self, engine: "Engine") -> "Configuration":
        """What is configured, wherever the settings say that it is kept."""
        from clara_dicom_adapter.configuration.store import ConfigurationStore
        from clara_dicom_adapter.resources.opening import open_configuration

        sql = ConfigurationStore(engine, self.settings.dicom.scp, self.settings.storage)
        return open_configuration(self.settings, lambda: sql, self.data, watch=False).configuration

    @property
    def temporal(self) -> TemporalSettings:
        """How to reach the Temporal server in use, the embedded one included; raises TemporalUnavailable."""
        configured = self.settings.services.temporal
        found = self.addresses
        if configured.address is not None:
            return configured
        if "temporal" not in found:
            raise TemporalUnavailable(
                f"no adapter runs on {self.data.root} (`clara dicom start`), and no other Temporal server is configured"
            )
        return configured.model_copy(
            update={"address": found["temporal"], "web_ui_address": found.get("temporal_ui", configured.web_ui_address)}
        )
