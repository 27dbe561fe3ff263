"""The interface over real HTTP, in this process, on a database of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ssl import SSLContext

import httpx
from sqlalchemy import Engine

from clara_dicom_adapter.api import Dependencies, RunFolder, WorkflowControl, create_app
from clara_dicom_adapter.api.authentication import policy
from clara_dicom_adapter.api.problems import WorkflowGone
from clara_dicom_adapter.api.server import serve
from clara_dicom_adapter.configuration import reader
from clara_dicom_adapter.configuration.api_keys import ApiKeys
from clara_dicom_adapter.configuration.run_time_levels import RunTimeLevels
from clara_dicom_adapter.configuration.settings import ApiSettings, DataFolder, Settings
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.receiver.dry_run import DryRun
from clara_dicom_adapter.records.secret import SiteSecret
from clara_dicom_adapter.workflows.models import Answer, DiscardInput, RetryInput, SendElsewhereInput


class NoWorkflows(WorkflowControl):
    """Stands for Temporal where nothing is asked of it."""

    async def ask(self, workflow_id: str, request: RetryInput | SendElsewhereInput | DiscardInput) -> Answer:
        raise WorkflowGone(f"{workflow_id} is not known ({type(request).__name__})")

    def link(self, workflow_id: str) -> str | None:
        del workflow_id
        return None


def dependencies(engine: Engine, data: DataFolder, settings: Settings | None = None) -> Dependencies:
    """What ``clara dicom api`` passes in, without Temporal."""
    settings = settings or Settings(api=ApiSettings(port=0))
    store = ConfigurationStore(engine, settings.dicom.scp, settings.storage)
    protection = policy(settings.api, ApiKeys(engine))
    return Dependencies(
        configuration=store,
        engine=engine,
        parts=RunFolder(data.run),
        workflows=NoWorkflows(),
        settings=settings.api.model_copy(update={"host": protection.host}),
        explainer=DryRun(settings, store, SiteSecret(engine)),
        log_levels=RunTimeLevels(data, lambda: reader.load(None, data, {}).logging.levels),
        authenticator=protection.authenticator,
        warnings=protection.warnings,
    )


@asynccontextmanager
async def serving(deps: Dependencies, trust: SSLContext | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that listens on a free port.

    Args:
        trust: For HTTPS.
    """
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    deps = replace(deps, settings=deps.settings.model_copy(update={"port": 0}))
    task = asyncio.create_task(serve(create_app(deps), deps.settings, port.set_result, stop))
    await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    base = f"{'https' if trust else 'http'}://127.0.0.1:{port.result()}"
    try:
        async with httpx.AsyncClient(base_url=base, trust_env=False, verify=trust or False) as client:
            yield client
    finally:
        stop.set()
        await task
