"""What every part has in common: its arguments, its settings, its report to the supervisor, its end.

A part is ``python -m clara_dicom_adapter.cli.parts.NAME_part --data-dir DIR [--config FILE] [--status-fd N]``. When it
serves, it writes one JSON line ``{"addresses": {SERVICE: ADDRESS}}`` to that descriptor; run by hand there is none.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from clara_dicom_adapter import log as logging_setup
from clara_dicom_adapter import part_status
from clara_dicom_adapter.cli.defaults import CONFIG_VARIABLE, DATA_DIR_VARIABLE, default_data_dir
from clara_dicom_adapter.cli.part_process import INVALID_CONFIGURATION
from clara_dicom_adapter.cli.privacy import keep_private
from clara_dicom_adapter.configuration import reader
from clara_dicom_adapter.configuration.importing import import_once
from clara_dicom_adapter.configuration.run_time_levels import READS_AGAIN, LevelReload, RunTimeLevels
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import AdapterError, ConfigurationInvalid, DatabaseUnavailable
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.temporal.exit import run_and_leave
from clara_dicom_adapter.temporal.ports import host_and_port

log = structlog.get_logger("clara_dicom_adapter.cli")

_DATABASE_PAUSE_SECONDS: Final = 2.0


class Part:
    """What a part is given, and how it tells how it is."""

    def __init__(
        self, name: str, reading: reader.Reading, levels: RunTimeLevels, *, status_fd: int | None = None
    ) -> None:
        self.name = name
        self.settings = reading.settings
        self.given = reading.given
        self.data = levels.data
        self.levels = levels
        self.levels_changed: Callable[[Mapping[str, str]], None] = lambda _levels: None
        """Told new log levels; for a part with processes of its own."""
        self._status_fd = status_fd
        self._status: part_status.StatusServer | None = None
        self._serves = False

    def answers(self, status: part_status.StatusSource, registry: CollectorRegistry | None = None) -> None:
        """Answer from now on, on a port of its own, how the part is; the API and probes ask.

        It is not ready before it says that it serves, whatever ``status`` says.
        """

        def told() -> Mapping[str, Any]:
            return status() if self._serves else {**status(), "ready": False, "reason": "it is starting"}

        health = self.settings.health
        try:
            self._status = part_status.serve(told, registry, host=health.host, port=health.port)
        except OSError as error:
            raise AdapterError(
                f"DicomAdapter>health: {host_and_port(health.host, health.port)} cannot be had: {error.strerror}; "
                "a port that is not 0 is for one part that runs alone"
            ) from error

    def apply_levels(self, levels: Mapping[str, str]) -> None:
        """Other log levels are in force in this process."""
        self.levels_changed(levels)

    def ready(self, **addresses: str) -> None:
        """Say that the part serves, and where.

        Args:
            addresses: ``host:port``, several of one port with commas, or URL by service; none for a part that listens
                on nothing.
        """
        self._serves = True
        ports = {service: int(address.rpartition(":")[2]) for service, address in addresses.items()}
        if self._status is not None:
            ports[part_status.STATUS_PORT] = self._status.port
        part_status.write_ready(self.data.run, self.name, ports, facts={"addresses": addresses, READS_AGAIN: True})
        log.info("part_ready", addresses=addresses)
        if self._status_fd is not None:
            os.write(self._status_fd, json.dumps({"addresses": addresses}).encode() + b"\n")

    def close(self) -> None:
        """The part ends in order."""
        part_status.remove(self.data.run, self.name)
        if self._status is not None:
            self._status.close()

    def database(self) -> Engine:
        """The configured database, as soon as it answers: without it the part is of no use."""
        while True:
            try:
                engine = open_engine(self.settings, self.data)
                import_once(engine, self.given)
            except DatabaseUnavailable as error:
                log.warning("waiting_for_database", reason=str(error))
                time.sleep(_DATABASE_PAUSE_SECONDS)
            else:
                return engine


def run_part(name: str, serve: Callable[[Part], int | None], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a part in this process and end it.

    Args:
        name: As ``clara dicom status`` shows it.
        serve: Serves until SIGTERM or SIGINT; its result is the exit status.
        arguments: Instead of the command line's.
    """
    run_and_leave(lambda: _main(name, serve, arguments))


def _main(name: str, serve: Callable[[Part], int | None], arguments: Sequence[str] | None) -> int | None:
    parser = argparse.ArgumentParser(prog=f"clara dicom {name}")
    folder = os.environ.get(DATA_DIR_VARIABLE) or default_data_dir()
    parser.add_argument("--data-dir", type=Path, default=folder, help="folder of everything that is kept (%(default)s)")
    parser.add_argument("--config", type=Path, default=os.environ.get(CONFIG_VARIABLE), help="settings file")
    parser.add_argument("--status-fd", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.status_fd is not None:
        os.set_inheritable(given.status_fd, False)
    keep_private()
    data = DataFolder(given.data_dir.absolute())
    try:
        # one that the supervisor starts again goes on with what can be used: the plain port, at least
        starting = name == "receiver" and given.status_fd is None
        reading = reader.read(given.config, data, os.environ, starting=starting)
        logging_setup.configure(reading.settings.log_setup, part=name)
        for warning in reading.warnings if given.status_fd is None else ():  # else the supervisor has told them
            log.warning("settings_warning", message=warning)
        levels = RunTimeLevels(data, lambda: reader.load(given.config, data, os.environ).logging.levels)
        part = Part(name, reading, levels, status_fd=given.status_fd)
        LevelReload(levels.in_force, part.apply_levels)
        try:
            return serve(part)
        finally:
            part.close()
    except ConfigurationInvalid as error:
        sys.stderr.write(f"{error}\n")
        return INVALID_CONFIGURATION
    except AdapterError as error:
        log.error("part_failed", reason=str(error))
        return 1
