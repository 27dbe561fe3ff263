"""What the API asks of Temporal: that a parked workflow goes on, or gives up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import quote

from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.api.problems import WorkflowGone, WorkflowRefused
from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import client as temporal
from clara_dicom_adapter.workflows.models import Answer, DiscardInput, RetryInput, SendElsewhereInput

_PATIENCE: Final = timedelta(seconds=15)
"""For one answer. The server may deliver what timed out when a worker is back; asking twice does no harm."""


Request = RetryInput | SendElsewhereInput | DiscardInput
_UPDATES: Final[Mapping[type[Request], str]] = {
    RetryInput: "retry",
    SendElsewhereInput: "send_elsewhere",
    DiscardInput: "discard",
}


class WorkflowControl(Protocol):
    """Speaks with workflows that wait for a person."""

    async def ask(self, workflow_id: str, request: Request) -> Answer:
        """Send the update ``retry``, ``send_elsewhere`` or ``discard``.

        Raises:
            WorkflowRefused: It does not wait, or not for that.
            WorkflowGone: It has ended.
            TemporalUnavailable: No answer.
        """
        ...

    def link(self, workflow_id: str) -> str | None:
        """The workflow in the Temporal UI; None when it is not known where that is."""
        ...


class TemporalControl:
    """Through a Temporal client that connects when it is first needed."""

    def __init__(
        self,
        settings: TemporalSettings,
        connect: Callable[[], Awaitable[Client]] | None = None,
        *,
        patience: timedelta = _PATIENCE,
    ) -> None:
        self._settings = settings
        self._connect = connect or (lambda: temporal.connect(settings, lazy=True, identity="clara-api"))
        self._patience = patience
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, workflow_id: str, request: Request) -> Answer:
        client = await self._connected()
        try:
            answer: Answer = await client.get_workflow_handle(workflow_id).execute_update(
                _UPDATES[type(request)], request, result_type=Answer, rpc_timeout=self._patience
            )
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            raise WorkflowRefused(cause.message if isinstance(cause, ApplicationError) else str(cause)) from error
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise TemporalUnavailable(f"{workflow_id} did not answer in time; is a worker running?") from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise WorkflowGone(
                    f"{workflow_id} does not wait: it has ended, or Temporal does not know it"
                ) from error
            raise TemporalUnavailable(f"Temporal did not answer: {error.status.name}") from error
        except RuntimeError as error:  # the SDK's word for a connection that is refused
            raise TemporalUnavailable(f"Temporal at {self._settings.address} cannot be reached") from error
        return answer

    def link(self, workflow_id: str) -> str | None:
        base = self._settings.web_ui_address
        if not base:
            return None
        return (
            f"{base.rstrip('/')}/namespaces/{quote(self._settings.namespace)}/workflows/{quote(workflow_id, safe='')}"
        )

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client
