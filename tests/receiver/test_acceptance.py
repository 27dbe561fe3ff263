"""The verdict on an association, as a table."""

from collections.abc import Sequence

import pytest

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.receiver.acceptance import (
    Accept,
    AssociationRequest,
    KnownAeTitle,
    KnownApplicationEntities,
    Load,
    Policy,
    Reject,
    RejectReason,
    canonical_address,
    verdict,
)
from clara_dicom_adapter.receiver.contexts import Service
from clara_dicom_adapter.workflows.models import PinnedAeTitle

STORAGE = frozenset({Service.STORAGE})
ECHO = frozenset({Service.VERIFICATION})
BOTH = STORAGE | ECHO
OTHER = frozenset({Service.OTHER})


def ae(ae_title: str, allowed: Sequence[str] = ()) -> KnownAeTitle:
    return KnownAeTitle(
        entity=ClaraAeTitle(name=ae_title, ae_title=ae_title, allowed_sources=tuple(allowed)),
        pinned=PinnedAeTitle(ae_title=ae_title, name=ae_title, processor="x"),
    )


KNOWN = KnownApplicationEntities(
    ae_titles={"CLARA": ae("CLARA"), "NARROW": ae("NARROW", ["CT1"])},
    sources={
        "CT1": frozenset({"10.0.0.1", "10.0.0.2"}),
        "MR1": frozenset({"fd00::5"}),
        "UNRESOLVED": frozenset({"scanner.example"}),
    },
)
OPEN = Policy(reject_unknown_sources=False)
FULL = Load(open_associations=25)
SHORT = Load(can_store=False)
NO_ECHO = Policy(verification_enabled=False)


def request(
    calling: str = "CT1", called: str = "CLARA", peer: str = "10.0.0.1", services: frozenset[Service] = STORAGE
) -> AssociationRequest:
    return AssociationRequest(calling, called, peer, services)


@pytest.mark.parametrize(
    ("asked", "policy", "load", "expected"),
    [
        (request(), Policy(), Load(), None),
        (request(peer="10.0.0.2"), Policy(), Load(), None),  # one calling AE title, several hosts
        (request(peer="::ffff:10.0.0.1"), Policy(), Load(), None),
        (request("MR1", peer="fd00:0::5"), Policy(), Load(), None),
        (request("MR1", peer="10.0.0.1"), Policy(), Load(), RejectReason.PEER_ADDRESS_UNKNOWN),
        (request(peer="10.0.0.3"), Policy(), Load(), RejectReason.PEER_ADDRESS_UNKNOWN),
        (request("UNRESOLVED"), Policy(), Load(), RejectReason.PEER_ADDRESS_UNKNOWN),
        (request("ct1"), Policy(), Load(), RejectReason.CALLING_AE_TITLE_UNKNOWN),  # case counts
        (request(""), Policy(), Load(), RejectReason.CALLING_AE_TITLE_UNKNOWN),
        (request("STRANGER", "NOBODY"), Policy(), Load(), RejectReason.CALLING_AE_TITLE_UNKNOWN),  # source first
        (request("STRANGER"), OPEN, Load(), None),
        (request(called="NOBODY"), Policy(), Load(), RejectReason.CALLED_AE_TITLE_UNKNOWN),
        (request(called="clara"), Policy(), Load(), RejectReason.CALLED_AE_TITLE_UNKNOWN),
        (request(called=""), Policy(), Load(), RejectReason.CALLED_AE_TITLE_UNKNOWN),
        (request(called="NARROW"), Policy(), Load(), None),
        (request("MR1", "NARROW", "fd00::5"), Policy(), Load(), RejectReason.CALLING_AE_TITLE_NOT_ALLOWED),
        (request("STRANGER", "NARROW"), OPEN, Load(), RejectReason.CALLING_AE_TITLE_NOT_ALLOWED),
        (request(services=ECHO), NO_ECHO, Load(), RejectReason.VERIFICATION_DISABLED),
        (request(services=BOTH), NO_ECHO, Load(), None),  # just that context is refused
        (request(services=ECHO), Policy(), Load(), None),
        (request(services=OTHER), Policy(), Load(), None),  # accepted without any context, as the original
        (request(), Policy(), SHORT, RejectReason.STORAGE_SHORT),
        (request(services=BOTH), Policy(), SHORT, RejectReason.STORAGE_SHORT),
        (request(services=ECHO), Policy(), SHORT, None),  # C-ECHO needs no space
        (request(services=ECHO), NO_ECHO, SHORT, RejectReason.VERIFICATION_DISABLED),
        (request(), Policy(), FULL, RejectReason.TOO_MANY_ASSOCIATIONS),
        (request(), Policy(maximum_of_caller=2), Load(20, of_caller=2), RejectReason.TOO_MANY_OF_SOURCE),
        (request(), Policy(maximum_of_caller=2), Load(20, of_caller=1), None),
        (request(), Policy(maximum_associations=26), FULL, None),
        (request(called="NOBODY"), Policy(), FULL, RejectReason.CALLED_AE_TITLE_UNKNOWN),
    ],
)
def test_the_verdict(asked: AssociationRequest, policy: Policy, load: Load, expected: RejectReason | None) -> None:
    decision = verdict(asked, KNOWN, policy, load)
    assert decision == (Accept(KNOWN.ae_titles[asked.called_ae_title]) if expected is None else Reject(expected))


def test_codes_are_those_of_the_standard() -> None:
    """PS3.8 table 9-21: result, source, diagnostic."""
    assert {reason.word: reason.codes for reason in RejectReason} == {
        "calling-ae-title-unknown": (1, 1, 3),
        "peer-address-unknown": (1, 1, 3),
        "called-ae-title-unknown": (1, 1, 7),
        "calling-ae-title-not-allowed": (1, 1, 3),
        "verification-disabled": (1, 1, 2),
        "storage-short": (2, 3, 1),
        "too-many-associations": (2, 3, 2),
        "too-many-associations-of-source": (2, 3, 2),
        "not-ready": (2, 3, 1),
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("FE80::1%eth0", "fe80::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("scanner.example", "scanner.example"),
    ],
)
def test_addresses_have_one_spelling(given: str, expected: str) -> None:
    assert canonical_address(given) == expected
