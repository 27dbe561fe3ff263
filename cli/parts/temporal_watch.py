"""Whether Temporal answers, asked all the time, so that a part's health is not a guess."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError

_PAUSE_SECONDS = 3.0
_CALL = timedelta(seconds=3)
_STALE_SECONDS = 10.0


class TemporalWatch:
    """Asks the server of a client for its health every few seconds."""

    def __init__(self) -> None:
        self._answered_at = time.monotonic()

    @property
    def reachable(self) -> bool:
        return time.monotonic() - self._answered_at < _STALE_SECONDS

    def status(self) -> dict[str, Any]:
        """What the part answers: it is of use only while Temporal is there."""
        return {"ready": True} if self.reachable else {"ready": False, "reason": "Temporal does not answer"}

    @contextlib.asynccontextmanager
    async def watching(self, client: Client) -> AsyncIterator[None]:
        """Ask until the block ends."""
        task = asyncio.create_task(self._watch(client))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, client: Client) -> None:
        while True:
            with contextlib.suppress(RPCError, RuntimeError):
                if await client.service_client.check_health(timeout=_CALL):
                    self._answered_at = time.monotonic()
            await asyncio.sleep(_PAUSE_SECONDS)
