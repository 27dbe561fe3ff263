"""Where an instance is addressed: the ReceiveWorkflow of its association, or of its window. Pure.

Values of attributes enter an address only as a keyed hash: the same on every node that knows the site's secret, and of
no use to whoever does not.
"""

import hashlib
import hmac

from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.models import PinnedAeTitle, ReceiveInput

NO_GROUPING = "none"
"""``groupBy`` of a window over all of an AE title, the meaning of 0.6."""

_SEPARATOR = "\x1f"  # cannot stand in an AE title (PS3.5 table 6.2-1), so no two different parts make the same text
_ABSENT = "\x00"


def keyed(secret: bytes, *parts: str) -> str:
    """A keyed hash of some text, 16 hex digits."""
    return hmac.new(secret, _SEPARATOR.join(parts).encode(), hashlib.sha256).hexdigest()[:16]


def sender_key(secret: bytes, calling_ae_title: str, called_ae_title: str) -> str:
    """What a sender is recognised by when it comes back."""
    return keyed(secret, "sender", calling_ae_title, called_ae_title)


def is_windowed(ae: PinnedAeTitle) -> bool:
    """Whether groups of an AE title may span associations."""
    return ae.timeout_seconds > 0


def workflow_id(ae: PinnedAeTitle, association_id: str, value: str | None, secret: bytes) -> str:
    """The ReceiveWorkflow that an instance belongs to.

    Args:
        value: Value of the grouping attribute; None when it is absent, empty or unreadable. Such instances form a
            group of their own, which is not the group of any value.
    """
    if not is_windowed(ae):
        return names.association_reception(ae.ae_title, association_id)
    grouped_value = "" if ae.group_by == NO_GROUPING else (value or _ABSENT)
    return names.window_reception(ae.ae_title, keyed(secret, "window", ae.ae_title, ae.group_by, grouped_value))


def receive_input(ae: PinnedAeTitle, calling_ae_title: str, association_id: str, secret: bytes) -> ReceiveInput:
    """How that workflow is started when it does not run yet."""
    windowed = is_windowed(ae)
    return ReceiveInput(
        ae=ae,
        calling_ae_title=calling_ae_title,
        association_id=None if windowed else association_id,
        sender_key="" if windowed else sender_key(secret, calling_ae_title, ae.ae_title),
    )
