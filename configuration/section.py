"""What every part of the settings is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Port = Annotated[int, Field(ge=0, le=65535)]
"""TCP port; 0 is any free one."""


class Section(BaseModel):
    """Base of every settings part: frozen, camelCase on file, unknown keys refused because they are typing mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)
