"""The REST API as a part."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import closing
from typing import NoReturn

import structlog
from sqlalchemy import Engine

from clara_dicom_adapter.api import server
from clara_dicom_adapter.api.app import create_app
from clara_dicom_adapter.api.authentication import policy
from clara_dicom_adapter.api.dependencies import Dependencies
from clara_dicom_adapter.api.parts import RunFolder
from clara_dicom_adapter.api.workflows import TemporalControl
from clara_dicom_adapter.cli.parts.entry import Part, run_part
from clara_dicom_adapter.configuration.api_keys import ApiKeys
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.receiver.dry_run import DryRun
from clara_dicom_adapter.records.secret import SiteSecret
from clara_dicom_adapter.resources.opening import open_configuration
from clara_dicom_adapter.temporal.ports import host_and_port

log = structlog.get_logger("clara_dicom_adapter.api")


def serve(part: Part) -> int:
    """Serve until told to stop."""
    settings = part.settings.api
    engine = part.database()
    try:
        asyncio.run(_serve(part, engine))
    except OSError as error:
        log.error("port_cannot_be_had", address=host_and_port(settings.host, settings.port), reason=str(error))
        return 1
    finally:
        engine.dispose()
    return 0


async def _serve(part: Part, engine: Engine) -> None:
    settings = part.settings
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    protection = policy(settings.api, ApiKeys(engine))
    for warning in protection.warnings:
        log.warning("api_protection", reason=warning)
    api = settings.api.model_copy(update={"host": protection.host})
    scheme = "https" if api.tls_certificate_file else "http"
    sql = ConfigurationStore(engine, settings.dicom.scp, settings.storage)
    with (
        closing(RunFolder(part.data.run)) as parts,
        closing(open_configuration(settings, lambda: sql, part.data, report=True)) as opened,
    ):
        app = create_app(
            Dependencies(
                configuration=opened.configuration,
                engine=engine,
                parts=parts,
                workflows=TemporalControl(settings.services.temporal),
                settings=api,
                scu_ae_title=settings.dicom.scu.ae_title,
                explainer=DryRun(settings, opened.configuration, SiteSecret(engine)),
                log_levels=part.levels,
                authenticator=protection.authenticator,
                warnings=protection.warnings,
            )
        )
        await server.serve(app, api, lambda port: part.ready(api=f"{scheme}://{host_and_port(api.host, port)}"), stop)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the API alone."""
    run_part("api", serve, arguments)


if __name__ == "__main__":
    main()
