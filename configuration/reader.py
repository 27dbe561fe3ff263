"""Settings from ``appsettings.json`` (the form of 0.8, seeds 000 and 002) and the environment.

Everything that is wrong is collected and told at once, with the key's path, the value, what is allowed and where it
came from. Comments and trailing commas are allowed, as in the documents.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import json5
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from clara_dicom_adapter.configuration import known_keys
from clara_dicom_adapter.configuration.processors.base import is_group_by
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid
from clara_dicom_adapter.log import LEVELS

SECTION: Final = "DicomAdapter"
DATABASE_KEY: Final = "DicomAdapterDatabase"
BESIDE: Final = frozenset({"ConnectionStrings", "Logging", "AllowedHosts"})
"""Sections beside ``DicomAdapter``; others belong to whatever shares the file, and are left alone."""
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")

Path_ = tuple[str, ...]

_SYNTAXES: Final = ("dicom", "scp", "verification", "transferSyntaxes")
_MEANINGS: Final[Sequence[tuple[Path_, Callable[[str], bool], str]]] = (
    (_SYNTAXES, lambda text: len(text) <= 64 and bool(_UID.fullmatch(text)), "a UID is expected"),
    (
        ("services", "platform", "metadataDicomSource"),
        lambda text: text.lower() != "none" and is_group_by(text),
        "tags are written GGGG,EEEE",
    ),
    (
        ("services", "platform", "endpoint"),
        lambda text: bool(re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^\s:/\[\]]+):[0-9]{1,5}", text)),
        "host:port is expected",
    ),
    (
        ("services", "resultsServiceEndpoint"),
        lambda text: bool(re.fullmatch(r"https?://[^\s/]+(/\S*)?", text)),
        "an absolute http or https URL is expected",
    ),
)
"""Path, check and what is allowed, for text that has a meaning."""


@dataclass
class _Found:
    """Values by path, and where each came from, while they are gathered."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    origins: dict[Path_, str] = field(default_factory=dict[Path_, str])
    problems: list[str] = field(default_factory=list[str])

    def set(self, path: Path_, value: object, origin: str) -> None:
        here = self.values
        for key in path[:-1]:
            below = here.get(key)
            if not isinstance(below, dict):
                below = here[key] = {}
            here = below
        here[path[-1]] = value
        self.origins[path] = origin

    def origin(self, path: Path_) -> str:
        """Where a value came from, or the nearest section above it that something is known of."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return "default"


def load(config: Path | None, data: DataFolder, environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        config: The file; none: ``appsettings.json`` in the data folder if there is one, else defaults only.

    Raises:
        ConfigurationInvalid: With a line for everything that is wrong.
    """
    found = _Found()
    path = config or data.root / "appsettings.json"
    if config is not None or path.exists():
        _take_file(found, path)
    _take_environment(found, environ)
    settings = _settings(found)
    if found.problems or settings is None:
        raise ConfigurationInvalid(found.problems)
    return settings


# ---- the file ----


def _take_file(found: _Found, path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json5.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid([f"{path}: cannot be read: {getattr(error, 'strerror', error)}"]) from error
    except ValueError as error:
        raise ConfigurationInvalid([f"{path}: {_in_words(str(error))}"]) from error
    if not isinstance(content, dict):
        raise ConfigurationInvalid([f"{path}: a JSON object is expected"])
    origin = f"file {path}"
    spelt = {name.lower(): name for name in (SECTION, *BESIDE)}
    sections = {spelt.get(str(key).lower(), str(key)): value for key, value in content.items()}
    adapter = _section(found, sections, SECTION, origin)
    for top in known_keys.nearly(sections, {SECTION, *BESIDE}):
        found.problems.append(f"{top} is unknown ({origin}); did you mean {known_keys.like(top, {SECTION, *BESIDE})}?")
    _merge(found, (), adapter, Settings, origin)
    database = _section(found, sections, "ConnectionStrings", origin).get(DATABASE_KEY)
    if database is not None:
        found.set(("database",), database, origin)
    levels = _section(found, _section(found, sections, "Logging", origin), "LogLevel", origin)
    for category, level in levels.items():
        found.set(("logLevels", category), level, origin)


def _in_words(error: str) -> str:
    """``<string>:4 Unexpected "x" at column 7`` as a sentence with line and column."""
    match = re.fullmatch(r"<string>:(\d+) (.*) at column (\d+)", error, re.DOTALL)
    return f"line {match[1]}, column {match[3]}: {match[2]}" if match else error


def _section(found: _Found, sections: Mapping[str, Any], name: str, origin: str) -> dict[str, Any]:
    value = sections.get(name, {})
    if isinstance(value, dict):
        return {str(key): below for key, below in value.items()}
    found.problems.append(f"{name} must be an object ({origin})")
    return {}


def _merge(found: _Found, above: Path_, values: Mapping[str, Any], model: type[BaseModel], origin: str) -> None:
    """Take a section's values under their canonical names; what is unknown is told by the model later."""
    for key, value in values.items():
        name = known_keys.canonical(model, str(key)) or str(key)
        below = known_keys.section(model, name)
        if below is not None and isinstance(value, dict):
            found.origins[*above, name] = origin
            _merge(found, (*above, name), value, below, origin)
        else:
            found.set((*above, name), value, origin)


# ---- the environment ----


def _take_environment(found: _Found, environ: Mapping[str, str]) -> None:
    host, port = environ.get("CLARA_SERVICE_HOST"), environ.get("CLARA_SERVICE_PORT_API")
    if host and port:
        origin = "variables CLARA_SERVICE_HOST and CLARA_SERVICE_PORT_API"
        found.set(("services", "platform", "endpoint"), f"{host}:{port}", origin)
    host, port = environ.get("CLARA_RESULTSSERVICE_SERVICE_HOST"), environ.get("CLARA_RESULTSSERVICE_SERVICE_PORT")
    if host and port:
        origin = "variables CLARA_RESULTSSERVICE_SERVICE_HOST and CLARA_RESULTSSERVICE_SERVICE_PORT"
        found.set(("services", "resultsServiceEndpoint"), f"http://{host}:{port}", origin)
    for variable, value in sorted(environ.items()):
        _take_variable(found, variable, value)


def _take_variable(found: _Found, variable: str, value: str) -> None:
    section, *keys = variable.split("__")
    origin = f"variable {variable}"
    match [section.lower(), *(key.lower() for key in keys)]:
        case ["connectionstrings", "dicomadapterdatabase"]:
            found.set(("database",), value, origin)
        case ["logging", "loglevel", _]:
            found.set(("logLevels", keys[1]), value, origin)
        case ["dicomadapter", _, *_]:
            path, model, index = _resolve(keys)
            if index is not None:
                _set_element(found, path, index, value, origin)
            else:
                found.set(path, _typed(model, path, value), origin)


def _resolve(keys: Sequence[str]) -> tuple[Path_, type[BaseModel] | None, int | None]:
    """Canonical path of a variable's keys, the section it lies in, and the place in a list, .NET's ``KEY__0``."""
    path: list[str] = []
    model: type[BaseModel] | None = Settings
    holder: type[BaseModel] | None = Settings
    for key in keys:
        if model is None and key.isdecimal():
            return tuple(path), holder, int(key)
        name = known_keys.canonical(model, key) if model else None
        path.append(name or key)
        holder, model = model, known_keys.section(model, name) if model and name else None
    return tuple(path), holder, None


def _set_element(found: _Found, path: Path_, index: int, value: str, origin: str) -> None:
    here = _value(found, path)
    values = list(here) if isinstance(here, list) else []
    values[index : index + 1] = [value]
    found.set(path, values, origin)


def _typed(model: type[BaseModel] | None, path: Path_, value: str) -> object:
    """Variables are text: of a list, its parts between commas or blanks; the model converts the rest."""
    if model is not None and known_keys.is_list(model, path[-1]):
        separator = r"\s*[;\s]\s*" if path[-1] == "metadataDicomSource" else r"\s*[,;\s]\s*"
        return [part for part in re.split(separator, value.strip()) if part]
    if value == "" and model is not None and known_keys.is_optional(model, path[-1]):
        return None
    return value


# ---- what it makes ----


def _settings(found: _Found) -> Settings | None:
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(found.values)
    except ValidationError as error:
        found.problems += [_problem(found, each) for each in error.errors(include_url=False)]
    _check_levels(found)
    _check_meaning(found)
    return settings


def _problem(found: _Found, error: ErrorDetails) -> str:
    path = tuple(str(part) for part in error["loc"])
    names = tuple(to_camel(part) if "_" in part else part for part in path)
    key = ">".join((SECTION, *names))
    origin = found.origin(path)
    if error["type"] == "extra_forbidden":
        below = known_keys.at(path[:-1])
        known = known_keys.names(below) if below else ()
        guess = known_keys.like(path[-1], known)
        hint = f"did you mean {guess}?" if guess else f"known here: {', '.join(sorted(known))}"
        return f"{key} is unknown ({origin}); {hint}"
    value = error["input"]
    shown = "a value of another kind" if isinstance(value, dict | list) else repr(value)[:100]
    if known_keys.is_secret(path):
        shown = "its value"
    return f"{key}: {shown} is not allowed: {error['msg'].removeprefix('Value error, ')} ({origin})"


def _check_levels(found: _Found) -> None:
    for category, level in found.values.get("logLevels", {}).items():
        if level not in LEVELS:
            origin = found.origin(("logLevels", category))
            found.problems.append(
                f"Logging>LogLevel>{category}: {level!r} is not allowed: one of {', '.join(LEVELS)} ({origin})"
            )


def _check_meaning(found: _Found) -> None:
    """What types cannot say; of the values as they came, so that it is told together with everything else."""
    for path, check, allowed in _MEANINGS:
        value = _value(found, path)
        values = value if isinstance(value, list) else [value]
        for each in values:
            if isinstance(each, str) and not check(each):
                _add(found, path, repr(each), allowed)
    if _value(found, _SYNTAXES) == [] and _value(found, (*_SYNTAXES[:-1], "enabled")) is not False:
        _add(found, _SYNTAXES, "[]", "at least one transfer syntax UID is needed")
    temporal = ("services", "temporal")
    files = [_value(found, (*temporal, name)) is None for name in ("tlsCertificateFile", "tlsKeyFile")]
    if files[0] != files[1]:
        _add(found, temporal, "one of two files", "tlsCertificateFile and tlsKeyFile are given together")


def _value(found: _Found, path: Path_) -> object:
    here: Any = found.values
    for key in path:
        here = here.get(key) if isinstance(here, dict) else None
    return here


def _add(found: _Found, path: Path_, value: str, allowed: str) -> None:
    found.problems.append(f"{'>'.join((SECTION, *path))}: {value} is not allowed: {allowed} ({found.origin(path)})")
