"""Objects that say neither whose they are nor of what."""

from pathlib import Path

from pydicom import dcmread
from support.receiving import associate, instance, receiving


def test_an_object_that_names_neither_patient_nor_study_is_stored(tmp_path: Path) -> None:
    """Patient ID may be empty (type 2), and nothing acknowledged should depend on our reading of the object."""
    sent = instance()
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        if keyword in sent:
            delattr(sent, keyword)
    with receiving(tmp_path) as receiver:
        assoc = associate(receiver.port)
        assert assoc.send_c_store(sent).Status == 0x0000
        assoc.release()
        folder = receiver.folder()
        (name,) = (name for _, name in folder.files().values())
        assert dcmread(folder.path / name) == sent
