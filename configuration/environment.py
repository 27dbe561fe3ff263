"""Settings from environment variables, in .NET's form ``SECTION__KEY__KEY``, and the four that Clara sets."""

import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from clara_dicom_adapter.configuration import known_keys
from clara_dicom_adapter.configuration.files import OTHER_NAMES
from clara_dicom_adapter.configuration.gathered import Gathered, KeyPath
from clara_dicom_adapter.configuration.logging_sections import LEVELS_PATH, level_name, same_case
from clara_dicom_adapter.configuration.settings import Settings


def take(found: Gathered, environ: Mapping[str, str]) -> None:
    """Take what the environment says; a key's own variable wins over those of Clara."""
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


def _take_variable(found: Gathered, variable: str, value: str) -> None:
    section, *keys = variable.split("__")
    origin = f"variable {variable}"
    match [section.lower(), *(key.lower() for key in keys)]:
        case ["connectionstrings", "dicomadapterdatabase"]:
            found.set(("database",), value, origin)
        case ["logging", "loglevel", _]:
            found.set((*LEVELS_PATH, same_case(found, keys[1])), level_name(value), origin)
        case ["logging", "console" | "file", _]:
            _take_key(found, ("logging", *keys), value, origin)
        case ["dicomadapter", first, *_] if first not in known_keys.BESIDE:
            _take_key(found, keys, value, origin)


def _take_key(found: Gathered, keys: Sequence[str], value: str, origin: str) -> None:
    path, model, index = _resolve(keys)
    if index is not None:
        _set_element(found, path, index, value, origin)
    else:
        found.set(path, _typed(model, path, value), origin)


def _resolve(keys: Sequence[str]) -> tuple[KeyPath, type[BaseModel] | None, int | None]:
    """Canonical path of a variable's keys, the section it lies in, and the place in a list, .NET's ``KEY__0``."""
    other = OTHER_NAMES.get(tuple(key.replace("-", "").replace("_", "").lower() for key in keys))
    if other is not None:
        return other, known_keys.at(other[:-1]), None
    path: list[str] = []
    model: type[BaseModel] | None = Settings
    holder: type[BaseModel] | None = Settings
    for key in keys:
        if model is None and key.isdecimal() and len(key) <= 4:
            return tuple(path), holder, int(key)
        name = known_keys.canonical(model, key) if model else None
        path.append(name or key)
        holder, model = model, known_keys.section(model, name) if model and name else None
    return tuple(path), holder, None


def _set_element(found: Gathered, path: KeyPath, index: int, value: str, origin: str) -> None:
    here = found.value(path)
    values = list(here) if isinstance(here, list) else []
    values[index : index + 1] = [value]
    found.set(path, values, origin)


def _typed(model: type[BaseModel] | None, path: KeyPath, value: str) -> object:
    """Variables are text: of a list, its parts between commas or blanks; the model converts the rest."""
    if model is not None and known_keys.is_list(model, path[-1]):
        separator = r"\s*[;\s]\s*" if path[-1] == "metadataDicomSource" else r"\s*[,;\s]\s*"
        return [part for part in re.split(separator, value.strip()) if part]
    if value == "" and model is not None and known_keys.is_optional(model, path[-1]):
        return None
    return value
