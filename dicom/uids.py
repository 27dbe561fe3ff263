"""Which UIDs we take, and which ones are our own."""

import re
from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.309878629699258226380546204744332995574"
"""Made from a random UUID once (PS3.5 annex B.2), and ours for good: peers know an implementation by it."""
IMPLEMENTATION_VERSION_NAME: Final = "CLARA_DICOM_09"  # PS3.7 annex D.3.3.2.3: at most 16 characters

MAXIMUM_LENGTH: Final = 64  # PS3.5 section 9.1

# a digit is asked for, because "." and ".." would climb in whatever path a UID becomes a part of
_USABLE: Final = re.compile(r"(?=.*[0-9])[0-9.]{1,64}")
_VALID: Final = re.compile(r"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


def is_usable(uid: str) -> bool:
    """Whether an instance with this UID is accepted: up to 64 digits and dots, in whatever order."""
    return _USABLE.fullmatch(uid) is not None


def is_valid(uid: str) -> bool:
    """Whether a UID follows PS3.5 section 9.1; a usable one that does not is odd, and worth a warning."""
    return _VALID.fullmatch(uid) is not None
