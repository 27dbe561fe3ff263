"""Logging: events with a closed list of keys, so that no patient attribute can slip in.

Every module takes ``log = structlog.get_logger("clara_dicom_adapter.<room>")`` and logs event names in snake case with
DICOM's own words as keys. :func:`configure` is called once per process.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Final

import structlog
from structlog.typing import EventDict, WrappedLogger

# fmt: off
KEYS: Final = frozenset(
    {
        "address", "addresses", "agent", "association_id", "associations", "attempt", "batch", "batches",
        "bytes", "called_ae_title", "calling_ae_title", "command", "count", "destination", "destinations",
        "endpoint", "error", "event", "exc_info", "exception", "exit_code", "failed", "failed_instances",
        "found", "group", "host", "instances", "job_id", "job_name", "jobs", "key", "kind", "level", "logger",
        "message", "method", "name", "namespace", "node_id", "number", "operator", "outcome", "owner", "part",
        "path", "payload_id", "peer", "pid", "pipeline", "pipeline_id", "port", "process", "processor",
        "reason", "reject_reason", "reject_result", "reject_source", "remedy", "retry_later", "revision",
        "role", "route", "run_id", "seconds", "sent", "service", "setting", "signal", "size", "sop_class_uid",
        "source", "stack_info", "state", "status", "submission_id", "task_id", "timestamp",
        "transfer_syntax_uid", "transfer_syntaxes", "uid_problem", "url", "value", "version", "waiting",
        "workflow_id",
    }
)
# fmt: on
"""The only keys a log line may have; a test logs with another one and sees it dropped."""


def _only_known_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    unknown = [key for key in event if key not in KEYS and not key.startswith("_")]
    for key in unknown:
        del event[key]
    if unknown:
        event["key"] = "dropped: " + ",".join(sorted(unknown))
    return event


def _only_what_is_told(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A value that is empty tells nothing; an empty exception would even be a line of its own."""
    return {key: value for key, value in event.items() if value != ""}


LEVELS: Final[Mapping[str, int]] = {
    "Trace": logging.DEBUG,
    "Debug": logging.DEBUG,
    "Information": logging.INFO,
    "Warning": logging.WARNING,
    "Error": logging.ERROR,
    "Critical": logging.CRITICAL,
    "None": logging.CRITICAL + 10,
}
"""The level names of seed 002."""


def configure(levels: Mapping[str, str], *, json: bool, part: str) -> None:
    """Send structlog and standard-library logs of this process to standard error.

    Args:
        levels: Category prefix to level name (:data:`LEVELS`); ``Default`` is everything.
        json: One JSON object per line instead of readable text.
        part: Name of this process, bound to every line.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _only_known_keys,
        _only_what_is_told,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(part=part)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS.get(levels.get("Default", "Information"), logging.INFO))
    for noisy in (
        "pynetdicom",
        "httpx",
        "httpcore",
        "uvicorn",
        "temporalio.worker",
        "alembic",
        "kubernetes",
        "urllib3",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # what is odd in an object is told by us, with nothing quoted
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)  # failures are told once, by our interceptor
