"""File descriptors of a listener: as many as it may have, and none left is no reason to turn in circles."""

import errno
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.receiving import associate, receiving

from clara_dicom_adapter.configuration.settings import ScpSettings
from clara_dicom_adapter.receiver import accepting, descriptors


@pytest.fixture
def hard_limit() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_listener_takes_as_many_as_it_may(hard_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard_limit))
    descriptors.allow_all(ScpSettings())
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard_limit, hard_limit)


@pytest.mark.parametrize(("most", "associations", "told"), [(1024, 100, 0), (1024, 200, 1), (-1, 1000, 0)])
def test_it_is_told_when_that_is_too_little(
    monkeypatch: pytest.MonkeyPatch, most: int, associations: int, told: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: Path("/nowhere").stat())  # it is not allowed either
    with capture_logs() as lines:
        descriptors.allow_all(ScpSettings(maximum_number_of_associations=associations))
    assert [line["event"] for line in lines] == ["few_file_descriptors"] * told
    assert all(line["count"] == most for line in lines)


def fail_first(monkeypatch: pytest.MonkeyPatch, failures: list[OSError]) -> None:
    """The first attempts to accept a connection fail like this."""
    accept = socket.socket.accept

    def failing(listening: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", failing)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_connection_that_no_descriptor_is_left_for_waits_without_turning_in_circles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failures: list[OSError] = [OSError(number, "too many open files")] * 3
    pauses: list[float] = []
    fail_first(monkeypatch, failures)
    monkeypatch.setattr(accepting, "sleep", pauses.append)
    with capture_logs() as lines, receiving(tmp_path / "spool") as receiver:
        assoc = associate(receiver.port)
        assert assoc.is_established
        assoc.release()
    assert len(pauses) == 3
    assert all(pause > 0 for pause in pauses)
    assert [line["event"] for line in lines].count("connections_not_accepted") == 1


def test_a_connection_that_another_process_has_taken_is_no_reason_to_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[OSError] = [BlockingIOError(errno.EAGAIN, "try again")]
    fail_first(monkeypatch, failures)
    monkeypatch.setattr(accepting, "sleep", lambda _: pytest.fail("it pauses"))
    with receiving(tmp_path / "spool") as receiver:
        assoc = associate(receiver.port)
        assert assoc.is_established
        assoc.release()
    assert not failures
