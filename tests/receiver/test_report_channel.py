"""The channel of reports: in order, nothing lost, and nobody waits for a receiver that is slow."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

import pytest
from support.receiving import LOOPBACK
from support.site import wait_until

from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.report_channel import ReportChannel
from clara_dicom_adapter.receiver.reports import REPORTS, Accepted, Ended, Listening, Progress, Report
from clara_dicom_adapter.workflows.models import AssociationOutcome

OPEN = LiveAssociation("a" * 32, "CT1", "CLARA", LOOPBACK)
LONG = replace(OPEN, arriving_in="x" * 1_000_000)
"""More than lies in a socket that nobody reads."""


def ended(live: LiveAssociation) -> Ended:
    return Ended(live, AssociationOutcome.RELEASED, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The listener's and the receiver's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield ours, theirs


def heard(lines: BinaryIO, count: int) -> list[Report]:
    return [REPORTS.validate_json(lines.readline()) for _ in range(count)]


def test_what_is_told_is_sent_before_telling_returns_and_an_acceptance_with_the_next(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    channel = ReportChannel(ours)
    theirs.setblocking(False)
    assert channel.tell(Accepted(OPEN))
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    assert channel.tell(ended(OPEN))
    with theirs.makefile("rb") as lines:
        assert heard(lines, 2) == [Accepted(OPEN), ended(OPEN)]
    channel.close()


def test_a_receiver_that_does_not_listen_holds_nobody_up_and_hears_everything_in_order(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    channel = ReportChannel(ours)
    told: list[Report] = [Listening(), ended(LONG), Accepted(OPEN), ended(OPEN)]
    assert all(channel.tell(report) for report in told)
    assert not channel.tell(Progress([OPEN])), "it is told again when there is time for it"
    assert not channel.idle()
    with theirs.makefile("rb") as lines:
        assert heard(lines, 4) == told
        wait_until("all is sent", channel.idle)
        assert channel.tell(Progress([OPEN]))
        assert heard(lines, 1) == [Progress([OPEN])]
    channel.close()


def test_what_many_threads_tell_comes_in_whole_lines(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    channel = ReportChannel(ours)

    def tell(number: int) -> None:
        for count in range(200):
            live = replace(OPEN, association_id=str(number), instances=count, arriving_in="x" * 2000)
            channel.tell(Accepted(live))
            channel.tell(ended(live))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    with theirs.makefile("rb") as lines:
        reports = heard(lines, 4 * 2 * 200)
    for thread in threads:
        thread.join()
    for number in range(4):
        of_thread = [
            report
            for report in reports
            if isinstance(report, Accepted | Ended) and report.association.association_id == str(number)
        ]
        assert [(type(report), report.association.instances) for report in of_thread] == [
            (kind, count) for count in range(200) for kind in (Accepted, Ended)
        ]
    channel.close()


def test_what_waits_is_sent_at_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    channel = ReportChannel(ours)
    channel.tell(Accepted(OPEN))
    channel.close()
    with theirs.makefile("rb") as lines:
        assert heard(lines, 1) == [Accepted(OPEN)]


def test_a_receiver_that_has_gone_is_no_failure_of_who_tells(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    channel = ReportChannel(ours)
    theirs.close()
    assert channel.tell(ended(OPEN))
    channel.close()


def test_what_the_system_has_no_memory_for_is_sent_later(ends: tuple[socket.socket, socket.socket]) -> None:
    failures = [OSError(errno.ENOBUFS, "no buffer space")] * 3

    class Short(socket.socket):
        def send(self, *arguments: Any) -> int:
            if failures:
                raise failures.pop()
            return super().send(*arguments)

    ours, theirs = ends
    with Short(fileno=os.dup(ours.fileno())) as short, theirs.makefile("rb") as lines:
        channel = ReportChannel(short)
        assert channel.tell(ended(OPEN))
        assert heard(lines, 1) == [ended(OPEN)]
        channel.close()
