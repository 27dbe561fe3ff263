"""Which presentation contexts are accepted: our own rule for each association, not a process-wide flag of pynetdicom.

A storage SOP class is a standard one (retired ones too), a private one, or one that we have never heard of: new and
vendors' classes must not be lost because a dictionary is old. What the standard defines for another service
(query, worklist, printing, ...) is refused, because accepting it would promise a service that is not there.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]

from clara_dicom_adapter.dicom import uids

VERIFICATION = "1.2.840.10008.1.1"

_SOP_CLASS_TYPES = frozenset({"SOP Class", "Meta SOP Class"})
_NOT_FOR_NETWORK_STORAGE = (
    "1.2.840.10008.1.20.",  # Storage Commitment: has "Storage" in its name, but is another service
    "1.2.840.10008.1.3.10",  # Media Storage Directory: exists on media only, PS3.10
)


class Service(StrEnum):
    """What a proposed abstract syntax is for."""

    STORAGE = "storage"
    VERIFICATION = "verification"
    OTHER = "other"


class ContextResult(IntEnum):
    """Result of a proposed presentation context, PS3.8 table 9-18."""

    ACCEPTED = 0
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True)
class ProposedContext:
    """One presentation context of an A-ASSOCIATE-RQ."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class ContextAnswer:
    """What is answered to one proposed context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: ContextResult


def service_of(abstract_syntax: str) -> Service:
    """What service an abstract syntax belongs to."""
    if abstract_syntax == VERIFICATION:
        return Service.VERIFICATION
    if abstract_syntax.startswith(_NOT_FOR_NETWORK_STORAGE):
        return Service.OTHER
    known = UID_dictionary.get(abstract_syntax)
    if known is None:
        return Service.STORAGE
    name, kind = known[0], known[1]
    # the registry keeps a few numbers of withdrawn classes without a name; they are among the storage classes
    return Service.STORAGE if kind in _SOP_CLASS_TYPES and ("Storage" in name or not name) else Service.OTHER


def services_of(proposed: Sequence[ProposedContext]) -> frozenset[Service]:
    """The services that an association proposes."""
    return frozenset(service_of(context.abstract_syntax) for context in proposed)


def answer(
    proposed: Sequence[ProposedContext], *, verification_enabled: bool, verification_syntaxes: Collection[str]
) -> list[ContextAnswer]:
    """Answer every proposed context; the first usable transfer syntax wins, because the sender has it at hand."""
    return [_answer_one(context, verification_enabled, verification_syntaxes) for context in proposed]


def _answer_one(
    context: ProposedContext, verification_enabled: bool, verification_syntaxes: Collection[str]
) -> ContextAnswer:
    service = service_of(context.abstract_syntax)
    # one that is no UID could not be read back from the file that it would be written to
    first = next(filter(uids.is_usable, context.transfer_syntaxes), "")
    if service is Service.OTHER or (service is Service.VERIFICATION and not verification_enabled):
        return _refused(context, first, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    if service is Service.VERIFICATION:
        first = next((syntax for syntax in context.transfer_syntaxes if syntax in verification_syntaxes), "")
    if not first:
        return _refused(context, first, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    return ContextAnswer(context.context_id, context.abstract_syntax, first, ContextResult.ACCEPTED)


def _refused(context: ProposedContext, transfer_syntax: str, result: ContextResult) -> ContextAnswer:
    return ContextAnswer(context.context_id, context.abstract_syntax, transfer_syntax, result)
