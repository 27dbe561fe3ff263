"""The sections ``Logging`` (all versions of the JSON file) and ``Serilog`` (0.7) as settings.

What .NET's logging has beyond levels, colours and the file concerns its own providers, and is passed over with a
warning; of Serilog's section, what only it can do (sinks, themes, templates, enrichers) is passed over.
"""

from collections.abc import Callable
from typing import Final

from clara_dicom_adapter.configuration import known_keys
from clara_dicom_adapter.configuration.document import Node
from clara_dicom_adapter.configuration.gathered import Gathered, KeyPath
from clara_dicom_adapter.configuration.settings import LoggingSettings
from clara_dicom_adapter.log_levels import LEVELS

LEVELS_PATH: Final = ("logging", "LogLevel")
_FILE_PATH: Final = ("logging", "File")
_SERILOG_LEVELS: Final = {"verbose": "Trace", "fatal": "Critical"}

Origin = Callable[[Node], str]


def take(found: Gathered, logging: Node | None, serilog: Node | None, origin: Origin) -> None:
    """Take both; where they differ ``Logging`` wins."""
    if serilog is not None:
        _take_serilog(found, serilog, origin)
    if logging is not None:
        _take_logging(found, logging, origin)


def same_case(found: Gathered, category: str) -> str:
    """The category in the case that it has been set in already: .NET does not look at it."""
    known = found.value(LEVELS_PATH)
    return next((name for name in known or () if name.lower() == category.lower()), category)


def level_name(text: object) -> object:
    """A level in its own spelling, whatever its case; what is none is given back for the model to refuse."""
    if not isinstance(text, str):
        return text
    known = {name.lower(): name for name in LEVELS}
    lowered = text.strip().lower()
    return known.get(_SERILOG_LEVELS.get(lowered, lowered).lower(), text)


def _take_logging(found: Gathered, logging: Node, origin: Origin) -> None:
    for key, node in logging.members.items():
        name = known_keys.canonical(LoggingSettings, key)
        path: KeyPath = ("logging", name or key)
        if name is None:
            found.warnings.append(f"Logging>{key} has no effect ({origin(node)})")
        elif not isinstance(node.value, dict | None):
            found.problems.append(f"Logging>{key} must be an object ({origin(node)})")
        elif path == LEVELS_PATH:
            for category, level in node.members.items():
                found.set((*path, same_case(found, category)), level_name(level.plain()), origin(level))
        else:
            _take_section(found, path, node, origin)


def _take_section(found: Gathered, path: KeyPath, node: Node, origin: Origin) -> None:
    section = known_keys.at(path)
    for key, below in node.members.items():
        name = known_keys.canonical(section, key) if section else None
        if name is None:
            found.warnings.append(f"Logging>{path[-1]}>{key} has no effect ({origin(below)})")
        elif below.value is not None:
            found.set((*path, name), below.plain(), origin(below))


def _take_serilog(found: Gathered, serilog: Node, origin: Origin) -> None:
    for key, node in serilog.members.items():
        if key.lower() == "minimumlevel":
            _take_minimum_level(found, node, origin)
        elif key.lower() == "writeto":
            for sink in node.items:
                _take_sink(found, sink, origin)


def _take_minimum_level(found: Gathered, node: Node, origin: Origin) -> None:
    levels = {"Default": node}
    if isinstance(node.value, dict):
        below = {key.lower(): each for key, each in node.members.items()}
        levels = {"Default": below["default"]} if "default" in below else {}
        levels |= below["override"].members if "override" in below else {}
    for category, level in levels.items():
        path = (*LEVELS_PATH, category)
        found.set(path, level_name(level.plain()), origin(level), f"Serilog>MinimumLevel>{category}")


def _take_sink(found: Gathered, sink: Node, origin: Origin) -> None:
    parts = {key.lower(): node for key, node in sink.members.items()}
    name, arguments = parts.get("name"), parts.get("args")
    if name is None or arguments is None or str(name.value).lower() != "file":
        return
    section = known_keys.at(_FILE_PATH)
    for key, node in arguments.members.items():
        known = known_keys.canonical(section, key) if section else None
        if known is not None and node.value is not None:
            found.set((*_FILE_PATH, known), node.plain(), origin(node), f"Serilog>WriteTo>File>{key}")
