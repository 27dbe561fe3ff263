"""The store session of one association, without a network."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, facts

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.acceptance import KnownAeTitle
from clara_dicom_adapter.receiver.c_store import StoreSession
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.naming import Naming
from clara_dicom_adapter.spool import AssociationFacts, Spool, SpoolRole, association
from clara_dicom_adapter.workflows.models import AssociationOutcome


def storing(spool: Spool, facts: AssociationFacts) -> StoreSession:
    return StoreSession(
        LiveAssociation(facts.association_id, "CT1", "CLARA", "127.0.0.1"),
        KnownAeTitle(ClaraAeTitle(name="CLARA", ae_title="CLARA"), facts.ae),
        open_folder=lambda: spool.begin_association(facts),
        can_store=lambda: True,
        naming=Naming(lambda: None),
        closed=lambda live, outcome, owed: None,
    )


def test_an_instance_that_the_end_of_its_association_overtakes_is_not_answered_with_success(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        of_association = facts()
        session = storing(spool, of_association)
        request = commands.StoreRequest(1, CT, "1.2.3")
        session.begin(request, CT, EXPLICIT_LITTLE_ENDIAN)
        session.write([memoryview(b"1234")])
        session.end(AssociationOutcome.ADAPTER_STOPPED)
        assert session.complete()[0] == commands.OUT_OF_RESOURCES
        session.begin(request, CT, EXPLICIT_LITTLE_ENDIAN)
        assert session.complete()[0] == commands.OUT_OF_RESOURCES
        assert list(spool.association(of_association.association_id).stored()) == []


class Failing:
    """A function that fails once, at its n-th call by this thread."""

    def __init__(self, real: Callable[..., Any], nth: int, number: int) -> None:
        self._real = real
        self._left = nth
        self._number = number
        self._thread = threading.get_ident()

    def __call__(self, *arguments: Any, **names: Any) -> Any:
        if threading.get_ident() != self._thread:
            return self._real(*arguments, **names)
        self._left -= 1
        if self._left == 0:
            raise OSError(self._number, os.strerror(self._number))
        return self._real(*arguments, **names)


def descriptors(root: Path) -> list[str]:
    """What this process has open below a folder."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # of whoever lists them
            found.append(str(path.readlink()))
    return sorted(each for each in found if each.startswith(str(root)))


@pytest.mark.parametrize(
    ("where", "call", "nth", "number"),
    [
        (os, "open", 1, errno.EMFILE),  # the folder
        (os, "open", 2, errno.ENOSPC),  # the facts
        (fcntl, "flock", 1, errno.ENOLCK),
        (association, "write_all", 1, errno.ENOSPC),
        (os, "rename", 1, errno.ENOSPC),
        (os, "fsync", 1, errno.EIO),  # the facts
        (os, "fsync", 2, errno.EIO),  # the folder
        (association, "sync_folder", 1, errno.EMFILE),  # the folder of all associations
    ],
)
def test_a_folder_that_could_not_be_made_is_made_for_the_next_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, call: str, nth: int, number: int
) -> None:
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        of_association = facts()
        session = storing(spool, of_association)
        answers: list[int] = []
        before = descriptors(tmp_path)
        for instance in (1, 2):
            with monkeypatch.context() as patch:
                if instance == 1:
                    patch.setattr(where, call, Failing(getattr(where, call), nth, number))
                session.begin(commands.StoreRequest(instance, CT, f"1.2.{instance}"), CT, EXPLICIT_LITTLE_ENDIAN)
            session.write([memoryview(b"1234")])
            answers.append(session.complete()[0])
            session.answered()
            if instance == 1:
                assert not any((spool.root / "associations").iterdir())
                assert descriptors(tmp_path) == before
                assert spool.end_abandoned() == []
        assert answers == [commands.OUT_OF_RESOURCES, commands.SUCCESS]
        session.end(AssociationOutcome.RELEASED)
        folder = spool.association(of_association.association_id)
        assert folder.outcome is not None
        assert (folder.outcome.outcome, folder.outcome.instances) == (AssociationOutcome.RELEASED, 1)
        assert folder.outcome.failed_instances == 1


def test_who_ends_abandoned_associations_goes_on_when_one_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked at while its folder could not be made durable."""
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        taken_back, abandoned = (spool.begin_association(facts()) for _ in range(2))
        for folder in (taken_back, abandoned):
            folder.close()
        place = spool._sealed.place

        def meanwhile() -> Any:
            taken_back.path.rename(tmp_path / "gone")
            return place()

        monkeypatch.setattr(spool._sealed, "place", meanwhile)
        assert [folder.association_id for folder in spool.end_abandoned()] == [abandoned.association_id]
