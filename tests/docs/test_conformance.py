"""docs/conformance.md says what the code does."""

import re
from pathlib import Path

import pytest

from clara_dicom_adapter.configuration.settings import ScpSettings, ScuSettings
from clara_dicom_adapter.dicom import uids
from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.acceptance import RejectReason

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|")
]
LIMITS = [
    ("maximumNumberOfAssociations", ScpSettings().maximum_number_of_associations),
    ("scu>maximumNumberOfAssociations", ScuSettings().maximum_number_of_associations),
    ("maximumPduLength", ScpSettings().maximum_pdu_length),
    ("associationRequestTimeoutSeconds", ScpSettings().association_request_timeout_seconds),
    ("associationIdleTimeoutSeconds", ScpSettings().association_idle_timeout_seconds),
    ("writeTimeoutSeconds", ScpSettings().write_timeout_seconds),
    ("shutdownGraceSeconds", ScpSettings().shutdown_grace_seconds),
    ("connectTimeoutSeconds", ScuSettings().connect_timeout_seconds),
    ("associationTimeoutSeconds", ScuSettings().association_timeout_seconds),
    ("responseTimeoutSeconds", ScuSettings().response_timeout_seconds),
]


def row_of(text: str) -> list[str]:
    [row] = [row for row in ROWS if f"`{text}`" in row]
    return row


@pytest.mark.parametrize("reason", list(RejectReason))
def test_every_rejection_is_stated_with_its_codes(reason: RejectReason) -> None:
    codes = re.match(r"(\d)[^/]*/ (\d)[^/]*/ (\d)", row_of(reason.word)[2])
    assert codes is not None
    assert tuple(map(int, codes.groups())) == reason.codes


def test_every_status_of_a_c_store_is_stated() -> None:
    status = {
        commands.SUCCESS,
        commands.OUT_OF_RESOURCES,
        commands.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
        commands.CANNOT_UNDERSTAND,
        commands.SOP_CLASS_NOT_SUPPORTED,
    }
    stated = {row[0] for row in ROWS if len(row) == 3 and re.fullmatch(r"[0-9A-F]{4}", row[0])}
    assert stated == {f"{each:04X}" for each in status}


def test_we_are_named_as_we_name_ourselves() -> None:
    assert row_of(uids.IMPLEMENTATION_CLASS_UID)[0] == "Implementation Class UID"
    assert row_of(uids.IMPLEMENTATION_VERSION_NAME)[0] == "Implementation Version Name"


@pytest.mark.parametrize(("setting", "default"), LIMITS, ids=[name for name, _ in LIMITS])
def test_limits_are_stated_with_their_defaults(setting: str, default: float) -> None:
    stated = [cell for row in ROWS for cell in row if f"`{setting}`" in cell and re.search(r"\d", cell)]
    assert stated
    assert all(re.search(rf"(?<!\d){default:g}(?!\d)", cell) for cell in stated)
