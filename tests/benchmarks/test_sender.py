"""The benchmark's sender: what it sends is a valid C-STORE, and what it is answered is looked at."""

import hashlib
from pathlib import Path

import pytest
from objects import CT, write_images
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from receivers.sender import CALLED, Association, read_instance, store_message
from support.dicom_peers import SUCCESS, ScriptedScp
from support.receiving import Configured, receiving

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.dicom.part10 import read_meta


class Benched(Configured):
    """Configured with the AE title that the sender calls."""

    def __init__(self) -> None:
        super().__init__()
        self.entity = ClaraAeTitle(name=CALLED, ae_title=CALLED)
        self.ae = self.ae.model_copy(update={"ae_title": CALLED, "name": CALLED})


def dataset(path: Path) -> bytes:
    return path.read_bytes()[read_meta(path).dataset_offset :]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    [path] = write_images(tmp_path, 1, 8192)
    instance, meta = read_instance(path), read_meta(path)
    assert (instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid) == (
        meta.sop_class_uid,
        meta.sop_instance_uid,
        meta.transfer_syntax_uid,
    )
    assert instance.dataset == dataset(path)
    assert dcmread(path).Rows == 64


@pytest.mark.parametrize("longest_pdu", [4096, 16384, 0], ids=["4096", "16384", "as accepted"])
def test_our_scp_stores_what_it_sends(tmp_path: Path, longest_pdu: int) -> None:
    paths = write_images(tmp_path / "sent", 5, 8192) + write_images(tmp_path / "large", 1, 600_000)
    with receiving(tmp_path / "spool", Benched(), reject_unknown_sources=False) as receiver:
        association = Association(receiver.port, CT, ExplicitVRLittleEndian)
        assert association.longest_pdu == 131072
        for number, path in enumerate(paths, 1):
            message = store_message(read_instance(path), number, longest_pdu or association.longest_pdu)
            association.store(number, message)
        association.release()
        folder = receiver.folder()
        stored = {each.sop_instance_uid: each.path for each in folder.stored()}
        assert len(stored) == len(paths)
        for path in paths:
            assert dataset(stored[read_meta(path).sop_instance_uid]) == dataset(path)


@pytest.mark.parametrize("status", [b"\x00\xa7", b"\x00\xb0"], ids=["A700", "B000"])
def test_only_0000_counts_as_stored(tmp_path: Path, status: bytes) -> None:
    [path] = write_images(tmp_path, 1, 8192)
    with ScriptedScp(lambda _scp, number: SUCCESS if number == 1 else status) as scp:
        association = Association(scp.peer.port, CT, ExplicitVRLittleEndian)
        association.store(7, store_message(read_instance(path), 7, association.longest_pdu))
        with pytest.raises(ConnectionAbortedError, match="message 8 was answered"):
            association.store(8, store_message(read_instance(path), 8, association.longest_pdu))
        association.connection.close()
    assert [hashlib.sha256(each).digest() for each in scp.datasets] == [hashlib.sha256(dataset(path)).digest()] * 2


def test_it_keeps_to_the_pdu_length_of_the_peer(tmp_path: Path) -> None:
    [path] = write_images(tmp_path, 1, 100_000)
    with ScriptedScp(lambda _scp, _number: SUCCESS, pdu_length=16384) as scp:
        association = Association(scp.peer.port, CT, ExplicitVRLittleEndian)
        association.store(1, store_message(read_instance(path), 1, association.longest_pdu))
        association.release()
    assert scp.longest_data_pdu == 16384
