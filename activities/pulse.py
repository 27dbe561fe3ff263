"""Tells Temporal of every activity that its worker lives, so that a short one is given to another soon after its death.

Without a sign of life Temporal waits for the whole time that an activity may take; one that is a transaction of
milliseconds may take minutes on a busy disk.
"""

import asyncio
from typing import Any, Final

from temporalio import activity
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

_FACTOR: Final = 4
"""Beats per heartbeat timeout."""


class PulseInterceptor(Interceptor):
    """Heartbeats for activities that have a heartbeat timeout and do not do it themselves."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Pulse(next)


class _Outbound(ActivityOutboundInterceptor):
    """Notes whether the activity heartbeats by itself."""

    def __init__(self, next: ActivityOutboundInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self.own = False

    def heartbeat(self, *details: Any) -> None:
        self.own = True
        super().heartbeat(*details)


class _Pulse(ActivityInboundInterceptor):
    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        # not activity.heartbeat(), which in a synchronous activity waits for the event loop that beats here
        self._outbound = outbound
        self._noting = _Outbound(outbound)
        super().init(self._noting)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        info = activity.info()
        if info.is_local or not info.heartbeat_timeout:
            return await super().execute_activity(input)
        beating = asyncio.create_task(self._beat(info.heartbeat_timeout.total_seconds() / _FACTOR))
        try:
            return await super().execute_activity(input)
        finally:
            beating.cancel()

    async def _beat(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            if self._noting.own:  # its details are not to be overwritten
                return
            self._outbound.heartbeat()
