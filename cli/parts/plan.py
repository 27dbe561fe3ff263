"""Which parts ``clara dicom start`` runs, in which order, and what they are told of each other.

Ports that are configured as 0 are chosen here, once, and kept for this run: so each part knows the others' addresses
before they exist, nobody waits for anybody without need, and an address survives the restart of its part.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clara_dicom_adapter.cli.part_process import PartSpec
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.temporal.ports import ReservedPort

_STOP_SECONDS: Final = 15.0
_RECEIVER_MARGIN_SECONDS: Final = 20.0
"""On top of the grace of associations: to abort what is left, hand over, and say good-bye."""


class Plan:
    """The parts for some settings; holds their ports until it is closed."""

    def __init__(self, settings: Settings, data: DataFolder, config: Path | None = None) -> None:
        self._settings = settings
        self._data = data
        self._config = config
        self._reserved: list[ReservedPort] = []
        self.environment = self._addresses()
        """Settings that every part gets in addition, as environment variables."""
        self.parts = self._parts()

    def close(self) -> None:
        """Give the ports back, when everything has ended."""
        for port in self._reserved:
            port.close()

    def _port(self, configured: int, *hosts: str) -> int:
        if configured:
            return configured
        self._reserved.append(ReservedPort(*hosts))
        return self._reserved[-1].port

    @property
    def _runs_temporal(self) -> bool:
        return self._settings.services.temporal.address is None

    @property
    def _runs_platform(self) -> bool:
        """Either half of it that is not configured elsewhere needs the embedded one."""
        services = self._settings.services
        return services.platform.endpoint is None or services.results_service_endpoint is None

    def _addresses(self) -> Mapping[str, str]:
        services, scp, api = self._settings.services, self._settings.dicom.scp, self._settings.api
        told: dict[str, str] = {
            "dicom__scp__port": str(self._port(scp.port, *scp.host)),
            "api__port": str(self._port(api.port, api.host)),
        }
        if scp.tls.enabled:
            told["dicom__scp__tls__port"] = str(self._port(scp.tls.port, *scp.host))
        if self._runs_temporal:
            port = self._port(services.temporal.embedded_port, "127.0.0.1")
            ui_port = self._port(services.temporal.embedded_ui_port, "127.0.0.1")
            told["services__temporal__embeddedPort"] = str(port)
            told["services__temporal__embeddedUiPort"] = str(ui_port)
            told["services__temporal__address"] = f"127.0.0.1:{port}"
            told["services__temporal__webUiAddress"] = f"http://127.0.0.1:{ui_port}"
        if self._runs_platform:
            host = services.platform.embedded_host
            port = self._port(services.platform.embedded_port, host)
            results_port = self._port(services.platform.embedded_results_port, host)
            told["services__platform__embeddedPort"] = str(port)
            told["services__platform__embeddedResultsPort"] = str(results_port)
            if services.platform.endpoint is None:
                told["services__platform__endpoint"] = f"{_as_peer(host)}:{port}"
            if services.results_service_endpoint is None:
                told["services__resultsServiceEndpoint"] = f"http://{_as_peer(host)}:{results_port}"
        return {f"DicomAdapter__{name}": value for name, value in told.items()}

    def _parts(self) -> list[PartSpec]:
        parts: list[PartSpec] = []
        if self._runs_temporal:
            parts.append(self._part("temporal"))
        if self._runs_platform:
            parts.append(self._part("platform"))
        parts.append(self._part("worker", after=("temporal",) if self._runs_temporal else ()))
        parts.append(self._part("api"))
        # the others wait for nobody: they serve, and what needs Temporal follows when it is there
        grace = self._settings.dicom.scp.shutdown_grace_seconds + _RECEIVER_MARGIN_SECONDS
        parts.append(self._part("receiver", stop_seconds=grace))
        return parts

    def _part(self, name: str, after: tuple[str, ...] = (), stop_seconds: float = _STOP_SECONDS) -> PartSpec:
        command = [sys.executable, "-m", f"clara_dicom_adapter.cli.parts.{name}_part"]
        command += ["--data-dir", str(self._data.root.absolute())]
        if self._config is not None:
            command += ["--config", str(self._config.absolute())]
        return PartSpec(name, tuple(command), self.environment, after, stop_seconds)


def _as_peer(host: str) -> str:
    """The address under which this machine reaches what listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - a comparison, nothing is bound
