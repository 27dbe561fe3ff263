"""The bytes on disk are the bytes that came over the wire: every file of pydicom that can be sent, from two senders."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pydicom
import pytest
from support.dcmtk import NOT_DCMTKS, proposals
from support.dicom_peers import storescp, tool
from support.receiving import LOOPBACK, receiving, run

from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, TimeLimits, Verdict, send

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SENDABLE = Path(__file__).parent.parent / "dicom" / "sendable.txt"


def sendable() -> list[Path]:
    return [TEST_FILES / line for line in SENDABLE.read_text().splitlines() if line]


def contents(files: Iterable[Path]) -> Counter[tuple[str, str, bytes]]:
    """SOP instance, transfer syntax and data set bytes of each file."""
    found: Counter[tuple[str, str, bytes]] = Counter()
    for path in files:
        meta = read_meta(path)
        data = path.read_bytes()[meta.dataset_offset :]
        found[meta.sop_instance_uid, meta.transfer_syntax_uid, data] += 1
    return found


def differences(left: Counter[tuple[str, str, bytes]], right: Counter[tuple[str, str, bytes]]) -> list[str]:
    """Readable: which instances, not their bytes."""
    return sorted({f"{uid} in {syntax}" for uid, syntax, _ in (left - right) + (right - left)})


@pytest.mark.e2e
def test_what_our_sender_sends_is_on_disk_byte_for_byte(tmp_path: Path) -> None:
    files = sendable()
    results: list[ObjectResult] = []
    with receiving(tmp_path) as receiver:
        peer = Peer("CLARA", LOOPBACK, receiver.port)
        limits = TimeLimits(connect=5, association=10, response=20)
        send(files, peer, SendSettings("CT1", limits, retries=0, retry_delay=0.1), results.append)
        receiver.wait_until_closed()
        stored = [folder.path / name for folder in receiver.spool.associations() for _, name in folder.files().values()]
        assert {result.verdict for result in results} == {Verdict.STORED}
        assert differences(contents(stored), contents(files)) == []


@pytest.mark.e2e
def test_what_dcmtk_sends_is_what_its_own_bit_preserving_receiver_gets(tmp_path: Path) -> None:
    """storescu re-encodes some files on the way; what counts is what came over the wire."""
    by_option = proposals(path for path in sendable() if read_meta(path).transfer_syntax_uid not in NOT_DCMTKS)
    storescu = tool("storescu")
    with receiving(tmp_path / "spool") as receiver, storescp(tmp_path / "dcmtk", "+B", "+xa", "-pm", "+uf") as theirs:
        for option, files in by_option.items():
            for ae_title, port in (("CLARA", receiver.port), (theirs.ae_title, theirs.port)):
                run(storescu, "-nh", "-R", option, "-aec", ae_title, LOOPBACK, str(port), *files)
        receiver.wait_until_closed()
        ours = [folder.path / name for folder in receiver.spool.associations() for _, name in folder.files().values()]
        expected = contents((tmp_path / "dcmtk").iterdir())
        assert differences(contents(ours), expected) == []
        assert expected.total() > 100  # most of them can be sent by dcmtk
