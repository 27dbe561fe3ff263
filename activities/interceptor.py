"""Translates what an activity raises into what Temporal stores and decides by, in one place.

Temporal decides about a retry by a flag and by exact class names, and keeps an error's text and the texts of its causes
in the history. So an :class:`AdapterError` becomes an ``ApplicationError`` of its class name and bounded text, not
retryable when it is permanent; any other exception keeps only its class name, for its text may hold anything, such as
the parameters of an SQL statement. Causes are cut off; the traceback, without texts, is logged here.
"""

import asyncio
import traceback
from typing import Any, Final

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from clara_dicom_adapter.errors import AdapterError, PermanentError

log = structlog.get_logger("clara_dicom_adapter.activities")

LONGEST_TEXT: Final = 1000
"""Characters of an error that go into history; Temporal fails a task whose failure is larger than 2 MiB."""


def translate(error: Exception) -> ApplicationError:
    """The failure that Temporal gets to see for an exception of an activity."""
    kind = type(error).__name__
    if isinstance(error, AdapterError):
        text = str(error)
        if len(text) > LONGEST_TEXT:
            text = text[: LONGEST_TEXT - 1] + "…"
        return ApplicationError(text, type=kind, non_retryable=isinstance(error, PermanentError))
    return ApplicationError(f"unexpected {kind}; the worker's log shows where", type=kind)


class ErrorInterceptor(Interceptor):
    """Installed in every worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _ErrorTranslation(next)


class _ErrorTranslation(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        try:
            return await self.next.execute_activity(input)
        except (FailureError, asyncio.CancelledError):
            raise
        except Exception as error:
            info = activity.info()
            log.warning(
                "activity_failed",
                name=info.activity_type,
                workflow_id=info.workflow_id,
                attempt=info.attempt,
                kind=type(error).__name__,
                error=str(error)[:LONGEST_TEXT] if isinstance(error, AdapterError) else "",
                exception="" if isinstance(error, AdapterError) else "".join(traceback.format_tb(error.__traceback__)),
            )
            raise translate(error) from None  # a cause's text would go into the history as well
