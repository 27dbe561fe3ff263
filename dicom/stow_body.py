"""The body of a STOW-RS request: the files of a batch, read from the disk while they are sent."""

from collections.abc import Iterator, Sequence
from typing import Final

from clara_dicom_adapter.dicom.requestor import StoredObject

_PIECE: Final = 1 << 18


class Unreadable(Exception):
    """A file could not be read to its end; its batch has been broken off.

    Attributes:
        before: What had been sent of the batch, and may have been stored.
    """

    def __init__(self, stored: StoredObject, before: Sequence[StoredObject]) -> None:
        super().__init__(stored.path.name)
        self.stored = stored
        self.before = before


class Body:
    """Multipart, PS3.18 section 8.6.1.2; iterating raises :class:`Unreadable`."""

    def __init__(self, batch: Sequence[StoredObject], boundary: str) -> None:
        self._batch = batch
        # no transfer-syntax parameter: it is in the file, and there are services that do not know the parameter
        self._opening = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._end = f"--{boundary}--\r\n".encode()
        self.begun: list[StoredObject] = []
        """Of these something may have been sent; of the others nothing was."""
        self.length = len(self._end) + sum(len(self._opening) + stored.file_bytes + 2 for stored in batch)

    def __iter__(self) -> Iterator[bytes]:
        for stored in self._batch:
            self.begun.append(stored)
            yield self._opening
            yield from self._pieces(stored)
            yield b"\r\n"
        yield self._end

    def _pieces(self, stored: StoredObject) -> Iterator[bytes]:
        left = stored.file_bytes
        try:
            with stored.path.open("rb", buffering=0) as file:
                while left and (piece := file.read(min(left, _PIECE))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise Unreadable(stored, self.begun[:-1]) from error
        if left:
            raise Unreadable(stored, self.begun[:-1])
