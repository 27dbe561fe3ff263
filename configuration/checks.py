"""What comes in over REST or the command line, checked, with everything wrong told in the words of 0.8.

The texts are those of original-behaviour 1.15 and 1.6, because operators' scripts may look for them.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from clara_dicom_adapter.configuration import known_keys, processors
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source, WebDestination
from clara_dicom_adapter.errors import ConfigurationInvalid

MAXIMUM_WINDOW: Final = "maximumWindow"
NO_PIPELINE: Final = "[ERROR] No pipeline defined"
"""How the line begins that says so (original-behaviour 1.6)."""

_TYPE_NAMES: Final[Mapping[type[Entity], str]] = {
    ClaraAeTitle: "ClaraApplicationEntity",
    Source: "SourceApplicationEntity",
    Destination: "DestinationApplicationEntity",
    WebDestination: "DicomWebDestination",
}
EntityT = TypeVar("EntityT", bound=Entity)


def clara_ae_title(raw: object, *, without_pipeline: bool = False) -> ClaraAeTitle:
    """A Clara AE title of a JSON object; the name is the AE title when none is given, the processor the default one.

    Args:
        without_pipeline: Whether one without a pipeline is accepted; its groups wait until it gets one.

    Raises:
        ConfigurationInvalid: With one line for everything that is wrong.
    """
    values = _object(ClaraAeTitle, raw)
    ae_title = values.get("aeTitle")
    name = values.get("name")
    if not name or (isinstance(name, str) and not name.strip()):
        values["name"] = ae_title
    for optional in ("processor", "processorSettings", "ignoredSopClasses", "allowedSources", "overwriteSameInstance"):
        if optional in values and values[optional] in (None, ""):
            del values[optional]
    found = _problems(ClaraAeTitle, values)
    found += [
        problem
        for problem in _processor_problems(ae_title, values)
        if not (without_pipeline and problem.startswith(NO_PIPELINE))
    ]
    if found:
        raise ConfigurationInvalid(found)
    return ClaraAeTitle.model_validate(values)


def source(raw: object) -> Source:
    """A source of a JSON object; raises ConfigurationInvalid."""
    return _entity(Source, raw)


def destination(raw: object) -> Destination:
    """A destination of a JSON object; raises ConfigurationInvalid."""
    return _entity(Destination, raw)


def web_destination(raw: object) -> WebDestination:
    """A DICOMweb destination of a JSON object; raises ConfigurationInvalid."""
    return _entity(WebDestination, raw)


def _entity(kind: type[EntityT], raw: object) -> EntityT:
    values = _object(kind, raw)
    found = _problems(kind, values)
    if found:
        raise ConfigurationInvalid(found)
    return kind.model_validate(values)


def _object(kind: type[Entity], raw: object) -> dict[str, Any]:
    """Values by field name; its case does not matter, as it did not in 0.8."""
    if isinstance(raw, Entity):
        return raw.model_dump(by_alias=True)
    if not isinstance(raw, Mapping):
        raise ConfigurationInvalid(["A JSON object is expected."])
    return {known_keys.canonical(kind, str(key)) or str(key): value for key, value in raw.items()}


def _problems(kind: type[Entity], values: Mapping[str, Any]) -> list[str]:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        lines = [_in_their_words(kind, values, problem) for problem in error.errors(include_url=False)]
        return list(dict.fromkeys(lines))
    return []


def _in_their_words(kind: type[Entity], values: Mapping[str, Any], problem: ErrorDetails) -> str:
    field = str(problem["loc"][0]) if problem["loc"] else ""
    type_name = _TYPE_NAMES[kind]
    value = _shown(values.get(field))
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        known = ", ".join(sorted(to_camel(name) for name in kind.model_fields))
        return f"Unknown field '{field}'; known are: {known}."
    match to_camel(field):
        case "aeTitle":
            return f"'{value}' is not a valid AE Title (source: {type_name})."
        case "allowedSources" if len(problem["loc"]) > 1:
            return f"'{_shown(problem['input'])}' is not a valid AE Title (source: {type_name}.allowedSources)."
        case "hostIp":
            return f"Invalid host name/IP address '{value}' specified for {_shown(values.get('aeTitle'))}."
        case "port":
            return f"Invalid port number '{value}' specified for {type_name}."
        case "name":
            return f"Invalid name '{value}' specified for {type_name}: 1 to 63 characters are expected."
    return f"Invalid value '{_shown(problem['input'])}' for {'.'.join(map(str, problem['loc']))}: {problem['msg']}."


def _shown(value: object) -> str:
    """As text that can be written down: JSON may hold half a character."""
    return "" if value is None else str(value)[:100].encode(errors="replace").decode()


def _processor_problems(ae_title: object, values: Mapping[str, Any]) -> list[str]:
    settings = values.get("processorSettings", {})
    if not isinstance(settings, Mapping) or not all(isinstance(value, str) for value in settings.values()):
        return []  # the model has said so
    name = values.get("processor", ClaraAeTitle.model_fields["processor"].default)
    if not isinstance(name, str):
        return []
    title = _shown(ae_title)
    found = processors.problems(title, name, settings)
    lowered = {str(key).strip().lower(): str(value) for key, value in settings.items()}
    for key in ("timeout", MAXIMUM_WINDOW):
        told = any(f"'{key}'" in line for line in found)
        if key.lower() in lowered and not told and not _is_duration(lowered[key.lower()]):
            found.append(f"[ERROR] Invalid processor setting '{key}' specified for AE Title {title}.")
    return found


def _is_duration(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False
