"""May this peer associate? A pure function of the request, what is configured and how full we are; no socket, no clock.

The order and the codes are those of PS3.8 table 9-21 as the original adapter used them, with three changes made on
purpose (docs/compatibility.md): a full disk and the association limit are transient, so that senders try again, and
disabled Verification refuses a whole association only when nothing else is proposed.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.receiver.contexts import Service
from clara_dicom_adapter.workflows.models import PinnedAeTitle


class RejectReason(Enum):
    """Why an association is rejected: our word for it, and (result, source, diagnostic) of PS3.8 table 9-21."""

    CALLING_AE_TITLE_UNKNOWN = ("calling-ae-title-unknown", (1, 1, 3))
    PEER_ADDRESS_UNKNOWN = ("peer-address-unknown", (1, 1, 3))
    CALLED_AE_TITLE_UNKNOWN = ("called-ae-title-unknown", (1, 1, 7))
    CALLING_AE_TITLE_NOT_ALLOWED = ("calling-ae-title-not-allowed", (1, 1, 3))
    VERIFICATION_DISABLED = ("verification-disabled", (1, 1, 2))
    STORAGE_SHORT = ("storage-short", (2, 3, 1))
    TOO_MANY_ASSOCIATIONS = ("too-many-associations", (2, 3, 2))
    TOO_MANY_OF_SOURCE = ("too-many-associations-of-source", (2, 3, 2))
    NOT_READY = ("not-ready", (2, 3, 1))
    """No configuration has been read yet, or the adapter is stopping or at fault: a state that passes."""

    @property
    def word(self) -> str:
        """The reason as it stands in logs, records and metrics."""
        return self.value[0]

    @property
    def codes(self) -> tuple[int, int, int]:
        """Result, source and diagnostic of the A-ASSOCIATE-RJ."""
        return self.value[1]


@dataclass(frozen=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ says, and where it came from; AE titles already trimmed."""

    calling_ae_title: str
    called_ae_title: str
    peer: str
    services: frozenset[Service] = frozenset()


@dataclass(frozen=True)
class KnownAeTitle:
    """One of our AE titles, and the configuration that an association would be received under."""

    entity: ClaraAeTitle
    pinned: PinnedAeTitle


@dataclass(frozen=True)
class KnownApplicationEntities:
    """What is configured, host names already resolved."""

    ae_titles: Mapping[str, KnownAeTitle] = field(default_factory=dict[str, KnownAeTitle])
    sources: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Calling AE title to the canonical addresses it may call from."""


@dataclass(frozen=True)
class Policy:
    """The settings that a verdict depends on."""

    reject_unknown_sources: bool = True
    verification_enabled: bool = True
    maximum_associations: int = 25
    maximum_of_caller: int = 25


@dataclass(frozen=True)
class Load:
    """How full the receiver is at this moment."""

    open_associations: int = 0
    can_store: bool = True
    of_caller: int = 0
    """Open associations of the calling AE title."""


@dataclass(frozen=True)
class Accept:
    """The association is accepted for this AE title."""

    ae: KnownAeTitle


@dataclass(frozen=True)
class Reject:
    """The association is rejected."""

    reason: RejectReason


def verdict(
    request: AssociationRequest, known: KnownApplicationEntities, policy: Policy, load: Load
) -> Accept | Reject:
    """Decide on an association; the first rule that applies wins.

    Who is asking comes before how full we are: a stranger is told so, and not asked to try again later.
    """
    if policy.reject_unknown_sources:
        addresses = known.sources.get(request.calling_ae_title)
        if not request.calling_ae_title or addresses is None:
            return Reject(RejectReason.CALLING_AE_TITLE_UNKNOWN)
        if canonical_address(request.peer) not in addresses:
            return Reject(RejectReason.PEER_ADDRESS_UNKNOWN)
    ae = known.ae_titles.get(request.called_ae_title)
    if ae is None:
        return Reject(RejectReason.CALLED_AE_TITLE_UNKNOWN)
    if ae.entity.allowed_sources and request.calling_ae_title not in ae.entity.allowed_sources:
        return Reject(RejectReason.CALLING_AE_TITLE_NOT_ALLOWED)
    if request.services == {Service.VERIFICATION} and not policy.verification_enabled:
        return Reject(RejectReason.VERIFICATION_DISABLED)
    if Service.STORAGE in request.services and not load.can_store:
        return Reject(RejectReason.STORAGE_SHORT)
    if load.open_associations >= policy.maximum_associations:
        return Reject(RejectReason.TOO_MANY_ASSOCIATIONS)
    if load.of_caller >= policy.maximum_of_caller:
        return Reject(RejectReason.TOO_MANY_OF_SOURCE)
    return Accept(ae)


def canonical_address(address: str) -> str:
    """An IP address in its one canonical spelling; IPv4-mapped IPv6 as IPv4, without a zone; other text unchanged."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)
