"""Payloads: rows in the database, files in folders named by our own ids.

``payloads/<id>/input/…`` is what was uploaded, ``payloads/<id>/operators/<name>/…`` what operators made. The file
system is the truth about files; only complete files, which are on the disk, have a name there.
"""

import json
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from clara_dicom_adapter.clara.embedded.database import Database
from clara_dicom_adapter.clara.embedded.names import checked_id, checked_name, matching_name, with_added, without
from clara_dicom_adapter.clara.embedded.refusal import NO_DOCUMENTED_CODE, Refusal
from clara_dicom_adapter.clara.model import JobState

BLOCK: Final = 1024 * 1024


class PayloadType(IntEnum):
    PIPELINE = 1
    REUSABLE = 2


@dataclass(frozen=True)
class Payload:
    payload_id: str
    type: PayloadType
    job_id: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class StoredFile:
    name: str
    path: Path
    size: int
    mode: int


class PayloadStore:
    """Payloads below one folder."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._payloads = folder / "payloads"
        self._arriving = folder / "arriving"
        shutil.rmtree(self._arriving, ignore_errors=True)  # uploads that a killed process never answered
        for made in (self._payloads, self._arriving):
            made.mkdir(parents=True, exist_ok=True)
        sync_folder(folder)

    def folder(self, payload_id: str) -> Path:
        """Where a payload's files are."""
        return self._payloads / payload_id

    def get(self, payload_id: str) -> Payload:
        """A payload that still has its files."""
        found = checked_id(payload_id, "payload", NO_DOCUMENTED_CODE)
        row = self._database.read().execute("SELECT * FROM payload WHERE id = ?", (found,)).fetchone()
        if row is None or row["removed"] is not None:
            raise Refusal("payload is unknown" if row is None else "payload has been removed")
        return Payload(row["id"], PayloadType(row["type"]), row["job_id"], json.loads(row["metadata"]))

    # ---- making and removing ----

    def create_reusable(self, metadata: Mapping[str, str]) -> str:
        """A payload that belongs to no job."""
        payload_id = uuid.uuid4().hex
        checked = with_added({}, metadata)
        self.make_folder(payload_id)
        with self._database.write() as connection:
            self.add_row(connection, payload_id, PayloadType.REUSABLE, None, checked)
        return payload_id

    def make_folder(self, payload_id: str) -> None:
        (self.folder(payload_id) / "input").mkdir(parents=True)
        sync_folder(self.folder(payload_id))
        sync_folder(self._payloads)

    @staticmethod
    def add_row(
        connection: sqlite3.Connection,
        payload_id: str,
        kind: PayloadType,
        job_id: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        connection.execute(
            "INSERT INTO payload (id, type, job_id, metadata, created) VALUES (?, ?, ?, ?, ?)",
            (payload_id, kind.value, job_id, json.dumps(dict(metadata)), time.time()),
        )

    def copy_inputs(self, payload_id: str, sources: Iterable[str]) -> None:
        """Copy reusable payloads, in order, into the input of a job's payload that is just being made."""
        target = self.folder(payload_id) / "input"
        for source in sources:
            payload = self.get(source)
            if payload.type is not PayloadType.REUSABLE:
                raise Refusal("only reusable payloads can be input of a job")
            for file in self.files(payload):
                copy = target / file.name
                if copy.exists():
                    raise Refusal(f"input payloads hold {file.name!r} twice")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.path, copy)
        sync_tree(target)

    def delete(self, payload_id: str) -> None:
        """Remove a whole payload, unless its job still needs it."""
        payload = self.get(payload_id)
        with self._database.write() as connection:
            if payload.job_id and _job_state(connection, payload.job_id) is not JobState.STOPPED:
                raise Refusal("the payload belongs to a job that has not ended")
            self.mark_removed(connection, payload.payload_id)
        self.remove_files(payload.payload_id)

    @staticmethod
    def mark_removed(connection: sqlite3.Connection, payload_id: str) -> None:
        connection.execute("UPDATE payload SET removed = ? WHERE id = ?", (time.time(), payload_id))

    def remove_files(self, payload_id: str) -> None:
        shutil.rmtree(self.folder(payload_id), ignore_errors=True)

    def discard_unknown(self) -> None:
        """Remove folders without a row, or whose removal was interrupted."""
        kept = {row[0] for row in self._database.read().execute("SELECT id FROM payload WHERE removed IS NULL")}
        for folder in self._payloads.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    # ---- files ----

    def files(self, payload: Payload) -> Iterator[StoredFile]:
        """Every file; names are relative to the payload's root (of a reusable payload: to what was uploaded)."""
        yield from walk(self._root(payload))

    def find(self, payload: Payload, name: str) -> StoredFile:
        """The file that a name from the wire means."""
        wanted = checked_name(name)
        root = self._root(payload)
        exact = _stored(root, wanted)
        if exact:
            return exact
        match = matching_name(wanted, (file.name for file in walk(root)))
        found = _stored(root, match) if match else None
        if found is None:
            raise Refusal(f"the payload has no file {wanted!r}, or several that differ in case only")
        return found

    def receive(self, payload: Payload, name: str, blocks: Iterable[bytes]) -> int:
        """Write an upload; when this returns, the file is complete, in its place and on the disk."""
        target = self._root(payload) / self._upload_name(payload, name)
        self._must_be_writable(self._database.read(), payload)
        part = self._arriving / uuid.uuid4().hex
        try:
            size = 0
            with part.open("xb") as file:
                for block in blocks:
                    size += file.write(block)
                file.flush()
                os.fsync(file.fileno())
            with self._database.write() as connection:  # holds off Jobs.Start until the name is there
                self._must_be_writable(connection, payload)
                try:
                    made = _make_parents(target.parent, self.folder(payload.payload_id))
                    part.replace(target)
                except (NotADirectoryError, IsADirectoryError, FileExistsError):
                    raise Refusal("a file's name is the folder of another one") from None
            for folder in made:
                sync_folder(folder)
            return size
        finally:
            part.unlink(missing_ok=True)

    def remove(self, payload: Payload, name: str) -> None:
        """Remove one file."""
        found = self.find(payload, name)
        with self._database.write() as connection:
            self._must_be_writable(connection, payload)
            found.path.unlink(missing_ok=True)
            sync_folder(found.path.parent)

    # ---- metadata ----

    def add_metadata(self, payload_id: str, added: Mapping[str, str]) -> None:
        self._change_metadata(payload_id, lambda existing: with_added(existing, added))

    def remove_metadata(self, payload_id: str, keys: Iterable[str]) -> dict[str, str]:
        return self._change_metadata(payload_id, lambda existing: without(existing, keys))

    def _change_metadata(
        self, payload_id: str, change: Callable[[Mapping[str, str]], dict[str, str]]
    ) -> dict[str, str]:
        if self.get(payload_id).type is not PayloadType.REUSABLE:
            raise Refusal("only reusable payloads have metadata")
        with self._database.write() as connection:
            changed = change(self.get(payload_id).metadata)
            connection.execute(
                "UPDATE payload SET metadata = ? WHERE id = ?", (json.dumps(changed), self.get(payload_id).payload_id)
            )
        return changed

    # ---- rules ----

    def _root(self, payload: Payload) -> Path:
        folder = self.folder(payload.payload_id)
        return folder if payload.type is PayloadType.PIPELINE else folder / "input"

    @staticmethod
    def _upload_name(payload: Payload, name: str) -> str:
        checked = checked_name(name)
        return f"input/{checked}" if payload.type is PayloadType.PIPELINE else checked

    @staticmethod
    def _must_be_writable(connection: sqlite3.Connection, payload: Payload) -> None:
        if payload.job_id and _job_state(connection, payload.job_id) is not JobState.PENDING:
            raise Refusal("the payload is read-only, because its job has been started")


def _job_state(connection: sqlite3.Connection, job_id: str) -> JobState:
    row = connection.execute("SELECT state FROM job WHERE id = ?", (job_id,)).fetchone()
    return JobState(row["state"]) if row else JobState.STOPPED


def _stored(root: Path, name: str) -> StoredFile | None:
    path = root / name
    try:
        inside = path.resolve().is_relative_to(root.resolve())
        if not inside or path.is_symlink() or not path.is_file():
            return None
        facts = path.stat()
    except OSError:
        return None
    return StoredFile(name, path, facts.st_size, facts.st_mode & 0o777)


def walk(root: Path) -> Iterator[StoredFile]:
    """Every regular file below a folder, in the order of the names; links are not followed and not shown."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if not path.is_symlink() and path.is_file():
                facts = path.stat()
                yield StoredFile(path.relative_to(root).as_posix(), path, facts.st_size, facts.st_mode & 0o777)


def _make_parents(folder: Path, root: Path) -> list[Path]:
    """Make a folder and those above it; returns the folders that got an entry and must be flushed."""
    changed = [folder]
    while folder != root and not folder.exists():
        folder = folder.parent
        changed.append(folder)
    changed[0].mkdir(parents=True, exist_ok=True)
    return changed


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Flush everything below a folder, and the folder."""
    for folder, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(folder) / name, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(folder))
