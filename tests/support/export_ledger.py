"""A ledger of an export in memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from clara_dicom_adapter.activities.export_ledger import Notes
from clara_dicom_adapter.dicom.delivery import ObjectResult


class Results:
    """Each object has one result."""

    def __init__(self) -> None:
        self.by_index: dict[int, ObjectResult] = {}
        self.lost: Mapping[int, str] = {}

    def is_to_be_sent(self, index: int) -> bool:
        return index not in self.by_index

    @contextmanager
    def writer(self) -> Iterator[Notes]:
        def write(index: int, result: ObjectResult) -> None:
            assert index not in self.by_index
            self.by_index[index] = result

        yield Notes(write, lambda *_: None)
