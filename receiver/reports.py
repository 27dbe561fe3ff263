"""What a listener process tells the receiver, and what it is told: one JSON line each. No I/O.

None is needed for an instance to be safe: the spool holds everything that counts, and what a report would have told is
found there by the reconciler. Nobody waits for one, except for the answer to :class:`FilesWanted`, behind the replies.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.dicom.tls_server import TlsServer
from clara_dicom_adapter.log import LogSetup
from clara_dicom_adapter.receiver.acceptance import AssociationRequest
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.spool.filing import CopyAt
from clara_dicom_adapter.workflows.models import AssociationOutcome


@dataclass(frozen=True)
class Listening:
    """Connections are served from now on."""

    kind: Literal["listening"] = "listening"


@dataclass(frozen=True)
class Accepted:
    """An association was accepted."""

    association: LiveAssociation
    kind: Literal["accepted"] = "accepted"


@dataclass(frozen=True)
class Rejected:
    """An association was rejected.

    Attributes:
        reason: Name of a :class:`~clara_dicom_adapter.receiver.acceptance.RejectReason`.
    """

    association_id: str
    request: AssociationRequest
    reason: str
    at: datetime
    kind: Literal["rejected"] = "rejected"


@dataclass(frozen=True)
class Progress:
    """Associations in which something has happened since the last time."""

    associations: list[LiveAssociation] = field(default_factory=list[LiveAssociation])
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True)
class Ended:
    """An association is over, with its totals."""

    association: LiveAssociation
    outcome: AssociationOutcome
    at: datetime
    kind: Literal["ended"] = "ended"


@dataclass(frozen=True)
class TlsFailed:
    """A connection came to nothing because of TLS.

    Attributes:
        failure: Value of a :class:`~clara_dicom_adapter.receiver.tls_failures.TlsFailure`.
    """

    failure: str
    kind: Literal["tls_failed"] = "tls_failed"


@dataclass(frozen=True)
class FilesWanted:
    """Instances in segments are to have files; :class:`FilesMade` answers.

    Attributes:
        number: Of this listener's, to know the answer by.
    """

    number: int
    copies: list[CopyAt]
    kind: Literal["files_wanted"] = "files_wanted"


Report = Listening | Accepted | Rejected | Progress | Ended | TlsFailed | FilesWanted


_WITH_KEYS: Final = ConfigDict(hide_input_in_errors=True)
"""Of what may hold a private key: no error quotes it."""


class ListenerSetup(BaseModel):
    """What a listener process is begun with.

    Attributes:
        spool: Root of the spool.
        number: Of this listener, from 0.
        listeners: How many there are.
        known: What is configured, as far as anybody knows.
        tls: How TLS is spoken; none: not at all, or it cannot be.
    """

    model_config = _WITH_KEYS

    scp: ScpSettings
    storage: StorageSettings
    spool: Path
    number: int
    listeners: int
    log: LogSetup
    known: KnownCopy | None
    tls: TlsServer | None = Field(default=None, repr=False)


class Know(BaseModel):
    """The configuration has changed."""

    kind: Literal["know"] = "know"
    known: KnownCopy


class Stop(BaseModel):
    """Take no new association, let the open ones finish for this long, then end."""

    kind: Literal["stop"] = "stop"
    grace_seconds: float


class LogLevels(BaseModel):
    """Log by these levels from now on."""

    kind: Literal["log_levels"] = "log_levels"
    levels: dict[str, str]


class Secure(BaseModel):
    """Speak TLS in this way from the next association on."""

    model_config = _WITH_KEYS

    kind: Literal["secure"] = "secure"
    tls: TlsServer = Field(repr=False)


class FilesMade(BaseModel):
    """What was wanted has its files.

    Attributes:
        number: Of what was wanted.
        refused: Why some have none, by their place in what was wanted.
    """

    kind: Literal["files_made"] = "files_made"
    number: int
    refused: dict[int, str]


Order = Know | LogLevels | Secure | FilesMade | Stop

REPORTS: Final[TypeAdapter[Report]] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])
ORDERS: Final[TypeAdapter[Order]] = TypeAdapter(Annotated[Order, Field(discriminator="kind")], config=_WITH_KEYS)
