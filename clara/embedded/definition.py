"""A pipeline's definition: the YAML of ``docs/pipelines.md``, checked as a whole."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from clara_dicom_adapter.clara.model import identifier

PAYLOAD: Final = "payload"
"""``input`` of an operator that reads what was uploaded."""
FIXED_PLACEHOLDERS: Final = frozenset({"python", "pipeline", "input", "output", "payload", "job"})
MAX_DEFINITION_BYTES: Final = 1024 * 1024

_PLACEHOLDER: Final = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_-]*)\}\}|\{([A-Za-z_][A-Za-z0-9_-]*)\}")
"""``{{name}}`` stands for ``{name}`` itself; any other brace is only a brace."""

OperatorName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
"""Becomes a folder of the payload and the name of a log file."""
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class DefinitionInvalid(Exception):
    """A definition that cannot be used, with everything that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, coerce_numbers_to_str=True)


class Operator(_Part):
    """One command of a pipeline."""

    name: OperatorName
    command: tuple[str, ...] = Field(min_length=1)
    input: str = PAYLOAD
    environment: dict[EnvironmentName, str] = {}
    time_limit: float = Field(default=3600, gt=0, alias="timeLimit")
    """Seconds."""


class Registration(_Part):
    """Who is told about an operator's output."""

    agent: str = Field(min_length=1, max_length=63)
    destinations: tuple[str, ...] = ()
    operator: str = Field(alias="from")
    files: str = "*"


class PipelineDefinition(_Part):
    """A pipeline: operators in order, and registrations of their results."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    id: str | None = None
    description: str = ""
    parameters: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")], str] = {}
    operators: tuple[Operator, ...] = Field(min_length=1)
    register_results: tuple[Registration, ...] = Field(default=(), alias="register-results")

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[str] = []
        if self.id is not None and identifier(self.id) is None:
            problems.append("id is not 32 hexadecimal digits")
        problems += [f"parameter {name} is a fixed placeholder" for name in FIXED_PLACEHOLDERS & set(self.parameters)]
        earlier: list[str] = []
        for operator in self.operators:
            if operator.name in earlier or operator.name == PAYLOAD:
                problems.append(f"operator name {operator.name} is taken")
            if operator.input not in (PAYLOAD, *earlier):
                problems.append(f"input {operator.input} of operator {operator.name} is no earlier operator")
            for text in (*operator.command, *operator.environment.values()):
                used = {match[2] for match in _PLACEHOLDER.finditer(text) if match[2]}
                unknown = used - FIXED_PLACEHOLDERS - set(self.parameters)
                problems += [
                    f"operator {operator.name} uses unknown placeholder {{{name}}}" for name in sorted(unknown)
                ]
            earlier.append(operator.name)
        problems += [
            f"register-results names {registration.operator}, which is no operator"
            for registration in self.register_results
            if registration.operator not in earlier
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def operator(self, name: str) -> Operator:
        """One operator by name."""
        return next(operator for operator in self.operators if operator.name == name)


def parse(text: str) -> PipelineDefinition:
    """Read a definition.

    Raises:
        DefinitionInvalid: It is no YAML, or not what ``docs/pipelines.md`` describes.
    """
    if len(text.encode()) > MAX_DEFINITION_BYTES:
        raise DefinitionInvalid([f"a definition has at most {MAX_DEFINITION_BYTES} bytes"])
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise DefinitionInvalid([f"it is not YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(content, Mapping):
        raise DefinitionInvalid(["it is not a mapping with name and operators"])
    try:
        return PipelineDefinition.model_validate(content)
    except ValidationError as error:
        raise DefinitionInvalid(
            [
                f"{'.'.join(str(part) for part in problem['loc']) or 'pipeline'}: {problem['msg']}"
                for problem in error.errors()
            ]
        ) from error


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace every placeholder; all names were checked when the definition was read."""
    return _PLACEHOLDER.sub(lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}", text)
