"""What every input, result, signal and answer of a workflow is made of."""

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """Base of everything that is written to a workflow's history."""

    model_config = ConfigDict(frozen=True)
