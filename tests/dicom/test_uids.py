"""Which UIDs are taken, and which are ours."""

import pytest
from pydicom.uid import UID

from clara_dicom_adapter.dicom import uids


@pytest.mark.parametrize(
    ("uid", "usable", "valid"),
    [
        ("1.2.840.10008.1.1", True, True),
        ("0.0", True, True),
        ("2.25." + "9" * 59, True, True),
        ("2.25." + "9" * 60, False, False),
        ("1.02.3", True, False),
        ("1..2", True, False),
        (".1.2.", True, False),
        ("12345", True, False),
        ("", False, False),
        (".", False, False),
        ("..", False, False),
        ("1.2/../3", False, False),
        ("1.2\n", False, False),
        ("1.2 ", False, False),
        ("\u0661.2", False, False),  # a digit to Python, not to DICOM
        ("1.2.x", False, False),
    ],
)
def test_what_is_usable_and_what_is_valid(uid: str, usable: bool, valid: bool) -> None:
    assert (uids.is_usable(uid), uids.is_valid(uid)) == (usable, valid)


def test_our_own_uid_and_version_name() -> None:
    assert uids.is_valid(uids.IMPLEMENTATION_CLASS_UID)
    assert UID(uids.IMPLEMENTATION_CLASS_UID).is_valid
    assert uids.IMPLEMENTATION_CLASS_UID.startswith("2.25.")
    assert int(uids.IMPLEMENTATION_CLASS_UID.removeprefix("2.25.")) < 1 << 128
    assert 1 <= len(uids.IMPLEMENTATION_VERSION_NAME) <= 16
