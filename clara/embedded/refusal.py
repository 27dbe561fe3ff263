"""What the platform refuses, and with which header code (clara-wire, section 2, "RPC error codes")."""

from typing import Final

PIPELINE_ID_MALFORMED: Final = -0x1000
PIPELINE_UNKNOWN: Final = -0x1001
DEFINITION_MALFORMED: Final = -0x1100
DEFINITION_UNUSABLE: Final = -0x1101
JOB_ID_MALFORMED: Final = -0x2000
JOB_UNKNOWN: Final = -0x2001
JOB_NAME_INVALID: Final = -0x2100

NO_DOCUMENTED_CODE: Final = -1
"""Ours, for everything that Clara's documents give no code for; it is outside of their ranges."""


class Refusal(Exception):
    """A request that the platform does not carry out; the servicers put it into the response's header."""

    def __init__(self, message: str, code: int = NO_DOCUMENTED_CODE) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
