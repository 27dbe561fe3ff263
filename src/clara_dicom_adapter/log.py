"""Logging: events with a closed list of keys, so that no patient attribute can slip in.

Every module takes ``log = structlog.get_logger("clara_dicom_adapter.<room>")`` and logs event names in snake case with
DICOM's own words as keys. :func:`configure` is called once per process; which lines count may change later
(:func:`clara_dicom_adapter.log_levels.apply`).
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from clara_dicom_adapter import log_levels
from clara_dicom_adapter.log_file import FileLog, RollingFileHandler

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
        "context_id", "direction", "elements",
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


@dataclass(frozen=True)
class LogSetup:
    """How a process logs.

    Attributes:
        levels: Category to level name, see :mod:`~clara_dicom_adapter.log_levels`.
        json: One JSON object per line instead of readable text.
        colors: Whether readable lines are coloured where standard error is a terminal.
        file: The same lines in a rolling file.
    """

    levels: Mapping[str, str] = field(default_factory=dict[str, str])
    json: bool = False
    colors: bool = True
    file: FileLog | None = None


def configure(setup: LogSetup, part: str) -> None:
    """Send structlog and standard-library logs of this process to standard error, and to the file if there is one.

    Args:
        part: Name of this process, in every line.
    """

    def with_part(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("part", part)
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        with_part,
        _only_known_keys,
        _only_what_is_told,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(_formatter(shared, json=setup.json, colors=setup.colors and sys.stderr.isatty()))
    if setup.file is not None:
        handlers.append(RollingFileHandler(setup.file))
        handlers[1].setFormatter(_formatter(shared, json=setup.json, colors=False))
    root = logging.getLogger()
    for old in root.handlers:
        if isinstance(old, RollingFileHandler):
            old.close()
    root.handlers[:] = handlers
    log_levels.apply(setup.levels)


def _formatter(shared: Sequence[structlog.typing.Processor], *, json: bool, colors: bool) -> logging.Formatter:
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=colors)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
