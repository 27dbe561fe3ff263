"""Which presentation contexts are accepted."""

import pytest

from clara_dicom_adapter.receiver.contexts import (
    VERIFICATION,
    ContextResult,
    ProposedContext,
    Service,
    answer,
    service_of,
    services_of,
)

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize(
    ("uid", "service"),
    [
        (CT, Service.STORAGE),
        ("1.2.840.10008.5.1.4.1.1.88.67", Service.STORAGE),  # X-Ray Radiation Dose SR
        ("1.2.840.10008.5.1.1.29", Service.STORAGE),  # Hardcopy Grayscale, retired
        ("1.2.840.10008.5.1.4.43.1", Service.STORAGE),  # Generic Implant Template
        ("1.2.840.10008.5.1.4.1.1.12.77", Service.STORAGE),  # withdrawn, without a name
        ("1.2.840.10008.5.1.4.1.1.9999", Service.STORAGE),  # newer than our dictionary
        ("1.3.46.670589.11.0.0.12.1", Service.STORAGE),  # private
        ("1.2.276.0.99", Service.STORAGE),  # never heard of
        (VERIFICATION, Service.VERIFICATION),
        ("1.2.840.10008.1.20.1", Service.OTHER),  # Storage Commitment is not storage
        ("1.2.840.10008.1.3.10", Service.OTHER),  # DICOMDIR
        ("1.2.840.10008.5.1.4.1.2.2.1", Service.OTHER),  # Study Root FIND
        ("1.2.840.10008.5.1.4.1.2.2.2", Service.OTHER),  # Study Root MOVE
        ("1.2.840.10008.5.1.4.31", Service.OTHER),  # Modality Worklist
        ("1.2.840.10008.5.1.1.9", Service.OTHER),  # Print, a meta SOP class
        ("1.2.840.10008.1.2.1", Service.OTHER),  # a transfer syntax is no SOP class
        ("1.2.840.10008.5.1.4.1.1.200.4", Service.OTHER),  # a FIND below the storage prefix
    ],
)
def test_what_a_uid_stands_for(uid: str, service: Service) -> None:
    assert service_of(uid) is service


def test_the_first_transfer_syntax_proposed_wins_in_each_context() -> None:
    proposed = [
        ProposedContext(1, CT, (EXPLICIT, IMPLICIT)),
        ProposedContext(3, CT, (IMPLICIT, EXPLICIT)),
        ProposedContext(5, CT, ("1.3.6.1.4.1.9999.1",)),  # even an unknown one: it is stored as it comes
    ]
    answers = answer(proposed, verification_enabled=True, verification_syntaxes=())
    assert [(a.transfer_syntax, a.result) for a in answers] == [
        (EXPLICIT, ContextResult.ACCEPTED),
        (IMPLICIT, ContextResult.ACCEPTED),
        ("1.3.6.1.4.1.9999.1", ContextResult.ACCEPTED),
    ]


def test_verification_takes_only_the_configured_transfer_syntaxes() -> None:
    proposed = [ProposedContext(1, VERIFICATION, (BIG, IMPLICIT)), ProposedContext(3, VERIFICATION, (BIG,))]
    first, second = answer(proposed, verification_enabled=True, verification_syntaxes=(IMPLICIT, EXPLICIT))
    assert (first.result, first.transfer_syntax) == (ContextResult.ACCEPTED, IMPLICIT)
    assert second.result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


def test_with_verification_disabled_just_that_context_is_refused() -> None:
    proposed = [ProposedContext(1, VERIFICATION, (IMPLICIT,)), ProposedContext(3, CT, (IMPLICIT,))]
    first, second = answer(proposed, verification_enabled=False, verification_syntaxes=(IMPLICIT,))
    assert first.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert second.result is ContextResult.ACCEPTED


def test_other_services_are_refused() -> None:
    proposed = [ProposedContext(1, "1.2.840.10008.5.1.4.31", (IMPLICIT,)), ProposedContext(3, CT, ())]
    first, second = answer(proposed, verification_enabled=True, verification_syntaxes=())
    assert first.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert second.result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    assert services_of(proposed) == {Service.OTHER, Service.STORAGE}


@pytest.mark.parametrize(
    ("syntaxes", "result", "chosen"),
    [
        (("1.2.\x1840.1", EXPLICIT), ContextResult.ACCEPTED, EXPLICIT),
        (("1.2.\x1840.1",), ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, ""),
        (("1." * 33,), ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, ""),
        (("..",), ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, ""),
    ],
)
def test_a_transfer_syntax_that_is_no_uid_is_never_chosen(
    syntaxes: tuple[str, ...], result: ContextResult, chosen: str
) -> None:
    """It would be stored, answered 0000, and not be readable as a file."""
    (given,) = answer([ProposedContext(1, CT, syntaxes)], verification_enabled=True, verification_syntaxes=())
    assert (given.result, given.transfer_syntax) == (result, chosen)
