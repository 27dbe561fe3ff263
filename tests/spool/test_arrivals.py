"""Associations that begin at the same time in one process."""

import threading
from pathlib import Path

import pytest
from support.spooling import facts

from clara_dicom_adapter.spool import Arrivals, AssociationFolder, Spool, SpoolRole
from clara_dicom_adapter.spool.durable import write_all


def test_one_that_begins_is_left_alone_by_others_that_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look whether it is received would take the lock that it is about to take, and fail its first instance."""
    made, goes_on = threading.Event(), threading.Event()

    def slow(descriptor: int, data: bytes) -> None:
        write_all(descriptor, data)
        if not made.is_set():
            made.set()
            assert goes_on.wait(10)

    monkeypatch.setattr("clara_dicom_adapter.spool.association.write_all", slow)
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        arrivals = Arrivals(spool.root, durable=False)
        begun: list[AssociationFolder] = []
        first = threading.Thread(target=lambda: begun.append(arrivals.begin_association(facts())))
        first.start()
        assert made.wait(10)
        begun.append(arrivals.begin_association(facts()))
        goes_on.set()
        first.join(10)
        assert [folder.receiving for folder in begun] == [True, True]
        arrivals.close()
        assert [folder.receiving for folder in begun] == [False, False]
