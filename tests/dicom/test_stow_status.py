"""What HTTP statuses and Retry-After say."""

from datetime import UTC, datetime

import pytest

from clara_dicom_adapter.dicom.stow_status import hopeless, is_transient, may_have_stored, refuses, retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 202, 302, 400, 401, 404, 409, 413, 415, 501, 505, 511])
def test_what_another_attempt_does_not_help(status: int) -> None:
    assert not is_transient(status)


@pytest.mark.parametrize(
    ("status", "headers", "perhaps"),
    [
        (408, {}, True),
        (425, {}, False),
        (429, {}, False),
        (500, {"retry-after": "1"}, True),
        (502, {}, True),
        (503, {}, True),
        (503, {"retry-after": "1"}, False),
        (504, {}, True),
        (507, {}, True),
        (599, {}, True),
    ],
)
def test_what_may_have_been_stored_before_a_transient_failure(
    status: int, headers: dict[str, str], perhaps: bool
) -> None:
    assert is_transient(status)
    assert may_have_stored(status, headers) is perhaps


@pytest.mark.parametrize(
    ("status", "refused"),
    [(200, False), (202, False), (302, True), (400, True), (408, False), (409, True), (500, False), (501, True)],
)
def test_who_refuses_has_stored_only_what_the_answer_names(status: int, refused: bool) -> None:
    assert refuses(status) is refused


def test_what_to_look_at() -> None:
    assert [bool(hopeless(status)) for status in (400, 401, 403, 404, 405, 409)] == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30),
        ("soon", 0),
        ("-5", 0),
        ("\u0663", 0),
        ("9" * 500, 999_999_999),
        ("", 0),
    ],
)
def test_how_long_to_wait(text: str, seconds: float) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds
    assert retry_after({}, NOW) == 0
