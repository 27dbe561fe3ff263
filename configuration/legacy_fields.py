"""The fields that a Clara AE title had in 0.6 (seed 001), as settings of its job processor, and back.

``timeout`` 0 is one job per association. A longer one merges all associations of the AE title, whatever the study,
which is ``groupBy: none`` today.
"""

from collections.abc import Mapping
from typing import Any, Final

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.configuration.processors.base import PIPELINE_PREFIX
from clara_dicom_adapter.errors import ConfigurationInvalid

_GROUP_BY: Final = "none"
SCHEMA: Final[Mapping[str, Any]] = {
    "pipelineId": {"type": "string", "description": "Id or name of the one pipeline."},
    "timeout": {"type": "number", "minimum": 0, "description": "Seconds; 0: a job per association."},
    "processors": {"type": "array", "items": {"type": "string"}, "description": "The job processors."},
}
SHOWN: Final = ("pipelineId", "timeout")


def translated(body: Mapping[str, Any], *, of_0_6: bool = True) -> dict[str, Any]:
    """The fields of today for those of 0.6; what is wrong with the others is not looked at.

    Args:
        of_0_6: Whether it is of 0.6 also when it has none of its fields, so that nothing is grouped.

    Raises:
        ConfigurationInvalid: A field of 0.6 is not what it should be.
    """
    lowered = {str(key).lower(): key for key in body}
    values = {key: value for key, value in body.items() if str(key).lower() not in _OLD}
    old = {name: body[lowered[name]] for name in _OLD if name in lowered and body[lowered[name]] is not None}
    wrong: list[str] = []
    settings_key = lowered.get("processorsettings", "processorSettings")
    settings = values.get(settings_key) or {}
    if not isinstance(settings, Mapping):
        return values  # its own check says so
    settings = dict(settings)
    timeout = old.get("timeout")
    if timeout is None:
        _default(settings, "timeout", "0")
    elif isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < float("inf"):
        wrong.append(f"Invalid timeout '{str(timeout)[:100]}': a number of seconds is expected, 0 or more.")
    else:
        _set(settings, "timeout", str(timeout))
    if of_0_6 or old:
        _default(settings, "groupBy", _GROUP_BY)
    if "pipelineid" in old:
        wrong += _take_pipeline(settings, old["pipelineid"], str(body.get(lowered.get("name", ""), "") or "clara"))
    processors = old.get("processors", [])
    if not isinstance(processors, list) or not all(isinstance(each, str) for each in processors):
        wrong.append("Invalid processors: a list of job processors is expected.")
    elif processors:
        values["processor"] = "; ".join(processors)
    if wrong:
        raise ConfigurationInvalid(wrong)
    return {**values, settings_key: settings}


_OLD: Final = frozenset({"pipelineid", "timeout", "processors"})


def shown(entity: ClaraAeTitle) -> dict[str, Any]:
    """The fields of 0.6 for an AE title; its settings with what they leave to defaults, which were others then."""
    settings = dict(entity.processor_settings)
    _default(settings, "timeout", "5")
    _default(settings, "groupBy", "0020,000D")
    timeout = float(next(value for key, value in settings.items() if key.strip().lower() == "timeout"))
    fields: dict[str, Any] = {"timeout": int(timeout) if timeout.is_integer() else timeout}
    pipelines = _pipelines(settings)
    if len(pipelines) == 1:
        fields["pipelineId"] = settings[pipelines[0]]
    return {**fields, "processorSettings": settings}


def _pipelines(settings: Mapping[str, Any]) -> list[str]:
    return [key for key in settings if str(key).strip().lower().startswith(PIPELINE_PREFIX)]


def _take_pipeline(settings: dict[str, Any], pipeline: object, name: str) -> list[str]:
    if not isinstance(pipeline, str) or not pipeline.strip():
        return [f"Invalid pipelineId '{str(pipeline)[:100]}': the id or name of a pipeline is expected."]
    keys = _pipelines(settings)
    if len(keys) > 1 and pipeline not in [settings[key] for key in keys]:
        return [f"pipelineId '{pipeline[:100]}' is none of the pipelines in processorSettings; say it there."]
    if len(keys) <= 1:
        settings[keys[0] if keys else f"{PIPELINE_PREFIX}{name.strip().lower()}"] = pipeline
    return []


def _default(settings: dict[str, Any], name: str, value: str) -> None:
    if not any(str(key).strip().lower() == name.lower() for key in settings):
        settings[name] = value


def _set(settings: dict[str, Any], name: str, value: str) -> None:
    for key in [key for key in settings if str(key).strip().lower() == name.lower()]:
        del settings[key]
    settings[name] = value
