"""``clara dicom send`` against dcmtk's storescp, and against nobody."""

import json
from pathlib import Path

import pytest
from support.commands import Clara
from support.dicom_objects import make_objects
from support.dicom_peers import free_port, storescp


def test_folders_and_files_are_sent_and_summed_up(clara: Clara, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    make_objects(folder / "a" / "b", 3)
    single = make_objects(tmp_path / "more", 1, name="single")
    (folder / "notes.txt").write_text("not DICOM")
    with storescp(tmp_path / "in") as peer:
        done = clara("send", "--to", f"STORESCP@127.0.0.1:{peer.port}", str(folder), str(single[0]))
    assert done.status == 0, done.err
    assert "stored\t0000\t4\n" in done.out
    assert "4 of 4 instances stored" in done.out
    assert len(list((tmp_path / "in").iterdir())) == 4


def test_a_machine_reads_what_became_of_each_file(clara: Clara, tmp_path: Path) -> None:
    good = make_objects(tmp_path / "files", 1)[0]
    bad = tmp_path / "files" / "bad.dcm"
    bad.write_bytes(b"no DICOM")
    with storescp(tmp_path / "in") as peer:
        done = clara("send", "--json", "--to", f"STORESCP@127.0.0.1:{peer.port}", str(good), str(bad))
    assert done.status == 1
    told = json.loads(done.out)
    assert (told["sent"], told["failed"], told["associations"]) == (1, 1, 1)
    verdicts = {Path(each["path"]).name: (each["verdict"], each["status"]) for each in told["objects"]}
    assert verdicts == {good.name: ("stored", "0000"), "bad.dcm": ("unreadable", None)}


def test_nobody_there_is_one_sentence_and_exit_status_1(clara: Clara, tmp_path: Path) -> None:
    make_objects(tmp_path / "files", 5)
    done = clara("send", "--to", f"PACS@127.0.0.1:{free_port()}", str(tmp_path / "files"))
    assert done.status == 1
    assert len(done.err.splitlines()) == 1
    assert "and 4 more: not-sent: no association with PACS" in done.err
    assert "0 of 5 instances stored" in done.out


@pytest.mark.parametrize("to", ["PACS", "PACS@host", "@host:104", "PACS@host:0", "PACS@host:99999", "P@h:x"])
def test_whom_to_send_to_must_be_complete(clara: Clara, tmp_path: Path, to: str) -> None:
    make_objects(tmp_path / "files", 1)
    done = clara("send", "--to", to, str(tmp_path / "files"))
    assert done.status == 2
    assert "AET@HOST:PORT" in done.err


def test_a_folder_without_dicom_files_is_told(clara: Clara, tmp_path: Path) -> None:
    done = clara("send", "--to", "PACS@127.0.0.1:104", str(tmp_path))
    assert (done.status, done.err) == (1, "clara: no DICOM files there\n")
