"""SIGKILL at chosen points: where an instance, a job or a result passes from one owner to the next."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support.dicom_objects import make_objects
from support.kill_points import held, killed_at, listener, socket_of, stopped_at
from support.site import Site, result_uid, wait_until

from clara_dicom_adapter.clara.model import JobState
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.spool.association import files_in
from clara_dicom_adapter.spool.prepared import PREPARED, SIZES
from clara_dicom_adapter.spool.replay import copies_without_file
from clara_dicom_adapter.spool.seal import seal_of
from clara_dicom_adapter.spool.segment import SEGMENTS
from clara_dicom_adapter.spool.settling import FEW

LARGE = max(SIZES) + 100_000
"""An instance of so many bytes is received into a new file, once its class is known for them."""

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def quiet(site: Site) -> Iterator[None]:
    """Each test begins with every part ready and nothing on its way, so that the next call is the one it means."""
    site.wait_ready()
    wait_until("the spool is empty", lambda: not site.associations(), 60)
    yield
    site.pacs.answering.set()


def uids(files: list[Path]) -> set[str]:
    return {read_meta(path).sop_instance_uid for path in files}


def new_folder(site: Site, before: set[Path]) -> Path:
    (folder,) = site.associations() - before
    return folder


# ---- the receiver and its listeners ----


def sealed(site: Site, folder: Path) -> list[Path]:
    """Prepared files that hold an instance of an association under no name yet."""
    found = []
    for path in (site.spool / PREPARED).iterdir():
        with suppress(FileNotFoundError):  # it has got its name, or has been made, meanwhile
            seal = seal_of(path)
            if seal is not None and seal.association_id == folder.name:
                found.append(path)
    return found


def named(folder: Path) -> list[Path]:
    return list(folder.glob("*.dcm"))


def all_named(folder: Path, count: int) -> list[Path]:
    """The instances of an association that is over, once they all have their names."""
    wait_until("they have their names", lambda: len(named(folder)) == count)
    return named(folder)


def safe(site: Site, folder: Path) -> set[int]:
    """Sequences of what the disk has of an association, under its name or not yet."""
    copies = {copy.instance for _, copy in copies_without_file(site.spool)}
    return {*files_in(folder), *(copy.sequence for copy in copies if copy.association_id == folder.name)}


@pytest.mark.parametrize(
    ("calls", "answered", "left"),
    [
        ("pwritev,pwritev2", False, 0),  # in the middle of a fragment
        ("fdatasync", False, 1),  # sealed, and not on the device
        ("ftruncate", True, 1),  # answered, and as long as the prepared file
        ("renameat,renameat2", True, 1),  # answered, and not named
    ],
)
def test_a_listener_dies_over_a_prepared_file(
    site: Site, tmp_path: Path, calls: str, answered: bool, left: int
) -> None:
    files = make_objects(tmp_path / "a", 6, size=100_000)
    before = site.associations()
    wait_until("files are prepared", lambda: len(list((site.spool / PREPARED).iterdir())) >= 50)
    with site.modality("ASSOC", files) as modality:
        assert modality.store(*files[:3])
        folder = new_folder(site, before)
        with killed_at(site, modality, calls) as point:
            assert modality.store(files[3]) == answered
            point.wait()
            assert len(sealed(site, folder)) == left
            assert len(named(folder)) == 3
    assert site.acknowledged["ASSOC"] & uids(files) == uids(files[: 3 + answered])
    site.send("ASSOC", files[3 + answered :])
    site.settle()


@pytest.mark.parametrize(
    ("calls", "where", "answered", "left"),
    [
        ("pwritev,pwritev2", "", False, 0),  # complete, and not in the segment
        ("fdatasync", "", False, 1),  # in the segment, and not on the device
        ("write", "00000004-{pid}.part", True, 1),  # answered, and its own file is empty
        ("syncfs", "", True, 1),  # its file is written, and not on the device
        ("rename,renameat,renameat2", "", True, 1),  # its file is on the device under no final name
    ],
)
def test_a_listener_dies_over_a_segment(
    site: Site, tmp_path: Path, calls: str, where: str, answered: bool, left: int
) -> None:
    files = make_objects(tmp_path / "a", 6, size=5000)
    before = site.associations()
    wait_until("there are segments", lambda: len(list((site.spool / SEGMENTS).glob("[0-9][0-9]"))) == 2)
    with site.modality("ASSOC", files) as modality:
        assert modality.store(*files[:3])
        folder = new_folder(site, before)
        wait_until("they have their names", lambda: len(named(folder)) == 3)
        path = folder / where.format(pid=listener(site, modality)) if where else ""
        with killed_at(site, modality, calls, path=path) as point:
            assert modality.store(files[3]) == answered
            point.wait()
            assert [copy.seal.sequence for _, copy in copies_without_file(site.spool)] == [4] * left
            assert len(named(folder)) == 3
    assert site.acknowledged["ASSOC"] & uids(files) == uids(files[: 3 + answered])
    site.send("ASSOC", files[3 + answered :])
    site.settle()


def test_the_receiver_dies_over_the_files_of_its_listener(site: Site, tmp_path: Path) -> None:
    """All are written, none is on the device."""
    files = make_objects(tmp_path / "a", 300, size=5000)
    before = site.associations()
    wait_until("there are segments", lambda: len(list((site.spool / SEGMENTS).glob("[0-9][0-9]"))) == 2)
    with killed_at(site, "receiver", "syncfs") as point:
        sending = site.send_aside("ASSOC", files)
        point.wait()
        folder = new_folder(site, before)
        answered = site.acknowledged["ASSOC"] & uids(files)
        assert len(answered) > FEW
        assert len(safe(site, folder)) >= len(answered)
        assert len(named(folder)) < len(answered)
    sending.join()
    site.settle()


@pytest.mark.parametrize(
    ("calls", "left"),
    [
        ("write,writev", 1),  # in the middle of a fragment
        ("fdatasync", 1),  # all fragments have come, none is on the device
        ("fsync", 0),  # between rename and reply: the name is there, its folder is not flushed
    ],
)
def test_a_listener_dies_over_a_new_file(site: Site, tmp_path: Path, calls: str, left: int) -> None:
    files = make_objects(tmp_path / "a", 6, size=LARGE)
    before = site.associations()
    with site.modality("ASSOC", files) as modality:
        assert modality.store(*files[:3])
        folder = new_folder(site, before)
        path = folder if calls == "fsync" else folder / "00000004.part"
        with killed_at(site, modality, calls, path=path) as point:
            assert not modality.store(files[3])
            point.wait()
            assert [part.name for part in folder.glob("*.part")] == ["00000004.part"][:left]
            assert len(named(folder)) == 4 - left
    assert site.acknowledged["ASSOC"] & uids(files) == uids(files[:3])
    site.send("ASSOC", files[3:])
    site.settle()


def test_a_listener_dies_when_an_instance_is_durable_and_the_reply_is_not_sent(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "a", 5)
    before = site.associations()
    with site.modality("ASSOC", files) as modality:
        assert modality.store(*files[:3])
        folder = new_folder(site, before)
        connection = socket_of(listener(site, modality), site.dicom_port, modality.port)
        with killed_at(site, modality, "sendto,send,sendmsg,write", path=connection) as point:
            assert not modality.store(files[3])
            point.wait()
            assert safe(site, folder) == {1, 2, 3, 4}
            assert not (folder / "00000004.part").exists()
    site.send("ASSOC", files[3:])
    site.settle()


def test_a_sender_is_back_and_done_before_its_broken_association_is_held(site: Site, tmp_path: Path) -> None:
    """The instance whose reply was lost is sent again, and both associations are closed at the same instant."""
    files = make_objects(tmp_path / "a", 5)
    before = site.associations()
    known = {job.job_id for job in site.jobs()}
    restarts = site.status.part("receiver").restarts
    with site.modality("ASSOC", files) as modality:
        assert modality.store(*files[:3])
        (folder,) = site.associations() - before
        connection = socket_of(listener(site, modality), site.dicom_port, modality.port)
        with killed_at(site, modality, "sendto,send,sendmsg,write", path=connection) as point:
            assert not modality.store(files[3])
            point.wait()
            assert safe(site, folder) == {1, 2, 3, 4}
            site.kill("receiver")
    with held(site, "worker"):  # neither workflow does anything before both know all
        wait_until("the receiver is back", lambda: site.status.part("receiver").restarts > restarts)
        site.send("ASSOC", files[3:])
        wait_until("all is handed over", lambda: site.usage().instances == 6 and site.usage().unhanded == 0)
    site.settle()
    (job,) = (job for job in site.jobs() if job.job_id not in known)
    assert sorted(site.payload(job)) == sorted(uids(files))


@pytest.mark.parametrize("ae_title", ["ASSOC", "WINDOW"])
def test_the_receiver_dies_between_reply_and_batch(site: Site, tmp_path: Path, ae_title: str) -> None:
    """As it is about to write the first row of the instances into the index."""
    files = make_objects(tmp_path / "a", 4)
    with killed_at(site, "receiver", "pwrite64", path=site.spool / "ownership.db-wal") as point:
        with site.modality(ae_title, files) as modality:
            assert modality.store(*files[:3])
            point.wait()
        assert site.usage().instances == 0
    site.send(ae_title, files[3:])
    site.settle()


@pytest.mark.parametrize("ae_title", ["ASSOC", "WINDOW"])
def test_the_receiver_dies_between_batch_and_signal(site: Site, tmp_path: Path, ae_title: str) -> None:
    files = make_objects(tmp_path / "a", 3)
    restarts = site.status.part("receiver").restarts
    with site.frozen("temporal"):
        site.send(ae_title, files)
        wait_until("the batch is made", lambda: site.usage().unhanded == 3)
        site.kill("receiver")
        wait_until("the receiver is back", lambda: site.status.part("receiver").restarts > restarts)
    site.settle()


@pytest.mark.parametrize("ae_title", ["ASSOC", "WINDOW"])
def test_the_receiver_dies_when_the_signal_is_accepted_and_that_is_not_noted(
    site: Site, tmp_path: Path, ae_title: str
) -> None:
    """Temporal has the batch, and gets it again."""
    files = make_objects(tmp_path / "a", 3)
    with held(site, "worker"), ExitStack() as temporal:  # nobody claims before the kill
        temporal.enter_context(site.frozen("temporal"))
        site.send(ae_title, files)
        wait_until("the batch is made", lambda: site.usage().unhanded == 3)
        with killed_at(site, "receiver", "pwrite64", path=site.spool / "ownership.db-wal") as point:
            temporal.close()
            point.wait()
            assert site.usage().unhanded == 3
    site.settle()


# ---- the worker ----


def test_the_worker_dies_in_the_middle_of_an_upload(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "a", 20, size=50_000)
    known = {job.job_id for job in site.jobs()}
    before = site.associations()
    with ExitStack() as platform:
        platform.enter_context(site.frozen("platform"))
        site.send("ASSOC", files)
        last = max(all_named(new_folder(site, before), len(files)))
        with killed_at(site, "worker", "openat", path=last) as point:
            platform.close()
            point.wait()
            (job,) = (job for job in site.jobs() if job.job_id not in known)
            assert job.state is JobState.PENDING
            assert 0 < len(site.payload(job)) < 20
    site.settle()
    assert {each.job_id for each in site.jobs()} == known | {job.job_id}


def test_the_worker_dies_when_the_job_is_created_and_that_is_not_noted(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "a", 3)
    known = {job.job_id for job in site.jobs()}
    with ExitStack() as platform:
        platform.enter_context(site.frozen("platform"))
        site.send("ASSOC", files)
        wait_until("the job is about to be created", lambda: bool(open_jobs(site)))
        with killed_at(site, "worker", "pwrite64", path=f"{site.data.database}-wal") as point:
            platform.close()
            point.wait()
            (job,) = (job for job in site.jobs() if job.job_id not in known)
            assert [row["job_id"] for row in open_jobs(site)] == [""]
    site.settle()
    assert {each.job_id for each in site.jobs()} == known | {job.job_id}


def test_the_worker_dies_when_the_job_is_started_and_that_is_not_noted(site: Site, tmp_path: Path) -> None:
    """The job runs: it is neither started once more nor made once more."""
    files = make_objects(tmp_path / "a", 3)
    known = {job.job_id for job in site.jobs()}
    before = site.associations()
    worker = site.status.part("worker").pid
    assert worker
    # so that the next thing the worker writes is what this test means
    wait_until("the ends of all jobs are noted", lambda: not noted(site, "submission_job WHERE ended_at IS NULL"))
    with ExitStack() as platform:
        platform.enter_context(site.frozen("platform"))
        site.send("ASSOC", files)
        last = max(all_named(new_folder(site, before), len(files)))
        wait_until("the job is about to be created", lambda: bool(open_jobs(site)))
        wait_until("the group is closed", lambda: not noted(site, "reception WHERE state = 'receiving'"))
        with stopped_at(site, "worker", "openat", path=last) as point:
            platform.close()
            point.wait()
            (created,) = open_jobs(site)
    with killed_at(site, "worker", "pwrite64", path=f"{site.data.database}-wal") as point:
        os.kill(worker, signal.SIGCONT)
        point.wait()
        (job,) = (job for job in site.jobs() if job.job_id not in known)
        assert job.was_started
        assert [row["job_id"] for row in open_jobs(site)] == [created["job_id"]] == [job.job_id]
    site.settle()
    assert {each.job_id for each in site.jobs()} == known | {job.job_id}
    assert not open_jobs(site)


def open_jobs(site: Site) -> list[dict[str, Any]]:
    """Jobs whose creation is noted to have begun, and that are not started."""
    return noted(site, "submission_job WHERE creating AND NOT started")


def noted(site: Site, rows: str) -> list[dict[str, Any]]:
    """Some of the records."""
    with closing(sqlite3.connect(f"file:{site.data.database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {rows}")]


def test_the_worker_dies_in_the_middle_of_an_export(site: Site, tmp_path: Path) -> None:
    """The PACS has answered for the third object, and that is not in the journal: this one object comes twice."""
    files = make_objects(tmp_path / "a", 8)
    known = {job.job_id for job in site.jobs()}
    got = site.pacs.received.total()
    site.pacs.patience = got + 2
    site.send("ASSOC", files)
    wait_until("the third object is not answered", lambda: site.pacs.received.total() == got + 3)
    (journal,) = (site.data.payloads / "exports").glob("*/sent-*.log")
    with killed_at(site, "worker", "write", path=journal) as point:
        site.pacs.answering.set()
        point.wait()
        assert journal.read_text().count('"verdict"') == 2
    site.settle()
    (job,) = (job for job in site.jobs() if job.job_id not in known)
    times = sorted(site.pacs.received[result_uid(job.job_id, uid)] for uid in uids(files))
    assert times == [1] * 7 + [2]


# ---- what the adapter works with ----


def test_the_platform_dies_in_the_middle_of_an_upload(site: Site, tmp_path: Path) -> None:
    known = {job.job_id for job in site.jobs()}
    with killed_at(site, "platform", "rename", when=3) as point:
        site.send("ASSOC", make_objects(tmp_path / "a", 40, size=50_000))
        point.wait()
        uploaded = list((site.data.platform / "payloads").rglob("input/**/*.dcm"))
    site.settle()
    (job,) = (job for job in site.jobs() if job.job_id not in known)
    there = [path for path in uploaded if job.payload_id in path.parts]
    assert 0 < len(there) < 40


@pytest.mark.parametrize("when", [1, 5, 25])
def test_temporal_dies_in_the_middle_of_a_commit(site: Site, tmp_path: Path, when: int) -> None:
    database = f"{site.data.temporal_database}-wal"
    with killed_at(site, "temporal", "fsync,fdatasync", path=database, when=when) as point:
        site.send("ASSOC", make_objects(tmp_path / "a", 5))
        site.send("WINDOW", make_objects(tmp_path / "b", 5))
        point.wait()
    site.settle()
