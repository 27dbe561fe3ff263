"""The platform's pipelines: YAML files in the operator's folder, and, when allowed, those created over gRPC.

Files are looked at again at every call, so that an edit needs no restart; what has not changed is not read again.
"""

import hashlib
import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.clara.embedded.database import Database
from clara_dicom_adapter.clara.embedded.definition import DefinitionInvalid, PipelineDefinition, parse
from clara_dicom_adapter.clara.embedded.names import checked_id, checked_name, with_added, without
from clara_dicom_adapter.clara.embedded.payloads import sync_folder, sync_tree
from clara_dicom_adapter.clara.embedded.refusal import (
    DEFINITION_MALFORMED,
    DEFINITION_UNUSABLE,
    PIPELINE_ID_MALFORMED,
    PIPELINE_UNKNOWN,
    Refusal,
)
from clara_dicom_adapter.clara.model import identifier

log = structlog.get_logger("clara_dicom_adapter.clara")

_IN_FOLDER: Final = "pipeline.yaml"
_NOT_ALLOWED: Final = "pipelines are commands; creating them over gRPC is off (services>platform>allowPipelineCreation)"


@dataclass(frozen=True)
class StoredPipeline:
    """A pipeline that can be used."""

    pipeline_id: str
    definition: PipelineDefinition
    file: Path
    text: str
    created_over_grpc: bool = False

    @property
    def folder(self) -> Path:
        """Where the definition lies, and what its commands bring along."""
        return self.file.parent


def id_of(name: str) -> str:
    """The id of a pipeline without one of its own: the same on every machine."""
    return hashlib.sha256(f"clara-pipeline:{name}".encode()).hexdigest()[:32]


class PipelineCatalogue:
    """Pipelines by id.

    Args:
        folder: The operator's definitions.
        created: Where definitions that come over gRPC are kept.
        allow_creation: Whether they are taken at all.
    """

    def __init__(self, database: Database, folder: Path, created: Path, *, allow_creation: bool) -> None:
        self._database = database
        self._folder = folder
        self._created = created
        self._allow_creation = allow_creation
        self._read: dict[Path, tuple[tuple[int, int], PipelineDefinition | None, str]] = {}
        self._told: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        created.mkdir(parents=True, exist_ok=True)

    def all(self) -> list[StoredPipeline]:
        """Every pipeline that can be used; of two with one id or name, the first."""
        found: dict[str, StoredPipeline] = {}
        names: set[str] = set()
        for pipeline in (*self._from_folder(), *self._from_grpc()):
            if pipeline.pipeline_id in found or pipeline.definition.name in names:
                self._tell(
                    pipeline.file, f"another pipeline has the same {'id' if pipeline.pipeline_id in found else 'name'}"
                )
                continue
            found[pipeline.pipeline_id] = pipeline
            names.add(pipeline.definition.name)
        return list(found.values())

    def get(self, pipeline_id: str) -> StoredPipeline:
        """One pipeline by id."""
        wanted = checked_id(pipeline_id, "pipeline", PIPELINE_ID_MALFORMED)
        for pipeline in self.all():
            if pipeline.pipeline_id == wanted:
                return pipeline
        raise Refusal("pipeline is unknown", PIPELINE_UNKNOWN)

    # ---- over gRPC ----

    def create(self, files: Mapping[str, str], pipeline_id: str, metadata: Mapping[str, str]) -> str:
        """Take a definition, and files for its commands, as a new pipeline."""
        self._must_be_allowed()
        definition = _usable(files)
        new_id = uuid.uuid4().hex
        if pipeline_id or definition.id:
            new_id = checked_id(pipeline_id or definition.id or "", "pipeline", PIPELINE_ID_MALFORMED)
        if any(new_id == other.pipeline_id or definition.name == other.definition.name for other in self.all()):
            raise Refusal("a pipeline with this id or name exists already")
        entries = with_added({}, metadata)
        revision = self._store(new_id, files)
        with self._database.write() as connection:
            connection.execute("INSERT INTO pipeline (id, revision) VALUES (?, ?)", (new_id, revision))
            _set_metadata(connection, new_id, entries)
        return new_id

    def update(self, pipeline_id: str, files: Mapping[str, str]) -> None:
        """Replace a definition; jobs that exist keep theirs."""
        pipeline = self._changeable(pipeline_id)
        definition = _usable(files)
        others = (other for other in self.all() if other.pipeline_id != pipeline.pipeline_id)
        if any(other.definition.name == definition.name for other in others):
            raise Refusal("a pipeline with this name exists already")
        revision = self._store(pipeline.pipeline_id, files)
        with self._database.write() as connection:
            connection.execute("UPDATE pipeline SET revision = ? WHERE id = ?", (revision, pipeline.pipeline_id))

    def remove(self, pipeline_id: str) -> None:
        """Remove a pipeline that was created over gRPC; jobs that exist keep it."""
        pipeline = self._changeable(pipeline_id)
        with self._database.write() as connection:
            connection.execute("DELETE FROM pipeline WHERE id = ?", (pipeline.pipeline_id,))
            connection.execute("DELETE FROM pipeline_metadata WHERE id = ?", (pipeline.pipeline_id,))

    def discard_unused(self, in_use: Iterable[str]) -> None:
        """Delete revisions that are neither current nor used by a job that has not ended."""
        with self._database.write() as connection:  # no revision becomes current or used meanwhile
            rows = connection.execute("SELECT id, revision FROM pipeline").fetchall()
            kept = {self._created / row["id"] / row["revision"] for row in rows} | {Path(folder) for folder in in_use}
            for folder in self._created.glob("*/*"):
                if folder not in kept:
                    shutil.rmtree(folder, ignore_errors=True)

    # ---- metadata ----

    def metadata(self, pipeline_id: str) -> dict[str, str]:
        """What is noted about a pipeline."""
        return _metadata(self._database.read(), pipeline_id)

    def add_metadata(self, pipeline_id: str, added: Mapping[str, str]) -> None:
        self._change_metadata(pipeline_id, lambda existing: with_added(existing, added))

    def remove_metadata(self, pipeline_id: str, keys: Iterable[str]) -> dict[str, str]:
        return self._change_metadata(pipeline_id, lambda existing: without(existing, keys))

    def _change_metadata(
        self, pipeline_id: str, change: Callable[[Mapping[str, str]], dict[str, str]]
    ) -> dict[str, str]:
        pipeline = self.get(pipeline_id)
        with self._database.write() as connection:
            changed = change(_metadata(connection, pipeline.pipeline_id))
            _set_metadata(connection, pipeline.pipeline_id, changed)
        return changed

    # ---- files ----

    def _from_folder(self) -> Iterator[StoredPipeline]:
        files = [(file.stem, file) for pattern in ("*.yaml", "*.yml") for file in self._folder.glob(pattern)]
        files += [(file.parent.name, file) for file in self._folder.glob(f"*/{_IN_FOLDER}")]
        for name, file in sorted(files):
            definition, text = self._definition(file)
            if definition:
                yield StoredPipeline(identifier(definition.id or "") or id_of(name), definition, file, text)

    def _from_grpc(self) -> Iterator[StoredPipeline]:
        for row in self._database.read().execute("SELECT id, revision FROM pipeline ORDER BY id").fetchall():
            file = self._created / row["id"] / row["revision"] / _IN_FOLDER
            definition, text = self._definition(file)
            if definition:
                yield StoredPipeline(row["id"], definition, file, text, created_over_grpc=True)

    def _definition(self, file: Path) -> tuple[PipelineDefinition | None, str]:
        try:
            facts = file.stat()
            version = (facts.st_mtime_ns, facts.st_size)
            known = self._read.get(file)
            if known and known[0] == version:
                return known[1], known[2]
            text = file.read_text(encoding="utf-8")
            definition = parse(text)
        except (OSError, UnicodeDecodeError, DefinitionInvalid) as error:
            self._tell(file, str(error))
            return None, ""
        self._read[file] = (version, definition, text)
        return definition, text

    def _tell(self, file: Path, reason: str) -> None:
        """Log once why a file is left out, not at every look."""
        if f"{file}: {reason}" not in self._told:
            self._told.add(f"{file}: {reason}")
            log.warning("pipeline_left_out", path=str(file), reason=reason)

    def _store(self, pipeline_id: str, files: Mapping[str, str]) -> str:
        """Write files as a new revision, complete and on the disk before anything refers to it."""
        revision = uuid.uuid4().hex
        folder = self._created / pipeline_id / revision
        folder.mkdir(parents=True)
        definition_file = _definition_file(files)
        for path, content in files.items():
            file = folder / (_IN_FOLDER if path == definition_file else checked_name(path))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        sync_tree(folder)
        sync_folder(folder.parent)
        sync_folder(self._created)
        return revision

    def _changeable(self, pipeline_id: str) -> StoredPipeline:
        self._must_be_allowed()
        pipeline = self.get(pipeline_id)
        if not pipeline.created_over_grpc:
            raise Refusal("the pipeline comes from the platform's pipeline folder; change it there")
        return pipeline

    def _must_be_allowed(self) -> None:
        if not self._allow_creation:
            raise Refusal(_NOT_ALLOWED)


def _definition_file(files: Mapping[str, str]) -> str:
    """Which of several files is the definition."""
    candidates = [path for path in files if path.endswith((".yaml", ".yml"))] or list(files)
    named = [path for path in candidates if path.rsplit("/", 1)[-1] == _IN_FOLDER]
    if len(candidates) != 1 and len(named) != 1:
        raise Refusal(f"one YAML file, or one named {_IN_FOLDER}, must be the definition", DEFINITION_MALFORMED)
    return named[0] if named else candidates[0]


def _usable(files: Mapping[str, str]) -> PipelineDefinition:
    definition_file = _definition_file(files)
    paths = {_IN_FOLDER if path == definition_file else checked_name(path) for path in files}
    if len(paths) != len(files):
        raise Refusal("two files have the same name", DEFINITION_MALFORMED)
    try:
        return parse(files[definition_file])
    except DefinitionInvalid as error:
        raise Refusal(str(error), DEFINITION_UNUSABLE) from error


def _metadata(connection: sqlite3.Connection, pipeline_id: str) -> dict[str, str]:
    row = connection.execute("SELECT metadata FROM pipeline_metadata WHERE id = ?", (pipeline_id,)).fetchone()
    found: dict[str, str] = json.loads(row["metadata"]) if row else {}
    return found


def _set_metadata(connection: sqlite3.Connection, pipeline_id: str, metadata: Mapping[str, str]) -> None:
    connection.execute(
        "INSERT INTO pipeline_metadata (id, metadata) VALUES (?, ?) "
        "ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata",
        (pipeline_id, json.dumps(dict(metadata))),
    )
