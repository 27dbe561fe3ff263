"""The entities of one kind, kept as Kubernetes resources: read from what is watched, written to the API server."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic

from clara_dicom_adapter.errors import AlreadyExists, ConfigurationInvalid, NotFound
from clara_dicom_adapter.resources import names
from clara_dicom_adapter.resources.kinds import EntityT, Kind, Resource
from clara_dicom_adapter.resources.server import ResourceServer
from clara_dicom_adapter.resources.verdicts import Judge, Verdict
from clara_dicom_adapter.resources.watching import Watched


class KeptAsResources(Generic[EntityT]):
    """A ``configuration.chosen.Kept``; only what is accepted is an entity.

    Args:
        copy: Path of a copy on disk, for a start while the API server is away.
        changed: Told after every change, from any thread.
    """

    def __init__(
        self,
        kind: Kind[EntityT],
        server: ResourceServer,
        copy: Path | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.kind = kind
        self.server = server
        self.watched = Watched(server, kind.plural, copy, changed)
        self._judge = Judge(kind)
        self._judging = threading.Lock()
        self._judged: int | None = None
        self._verdicts: Mapping[str, Verdict[EntityT]] = {}
        self._revision = 0
        self._watching = False

    def start(self) -> None:
        """Watch from now on; without it, every call lists anew."""
        self._watching = True
        self.watched.start()

    def stop(self) -> None:
        if self._watching:
            self.watched.stop()

    def verdicts(self) -> Mapping[str, Verdict[EntityT]]:
        """What is thought of each resource, by its name; raises KubernetesUnavailable when nothing is known."""
        if not self._watching:
            self.watched.refresh()
        with self._judging:
            number, resources = self.watched.resources()
            if number != self._judged:
                before = _in_force(self._verdicts)
                self._verdicts = self._judge.judge(resources)
                self._judged = number
                if self._revision == 0 or _in_force(self._verdicts) != before:
                    self._revision += 1
            return self._verdicts

    # ---- configuration.chosen.Kept ----

    def revision(self) -> int:
        self.verdicts()
        return self._revision

    def all(self) -> Sequence[EntityT]:
        return [entity for entity, _ in self.revised()]

    def revised(self) -> Sequence[tuple[EntityT, int]]:
        accepted = [(each.entity, each.generation) for each in self.verdicts().values() if each.entity is not None]
        return sorted(accepted, key=lambda each: self.kind.key(each[0]))

    def get(self, key: str, host: str | None = None) -> EntityT:
        return self._one(key, host)[1]

    def add(self, entity: EntityT) -> EntityT:
        """Make a resource.

        Raises:
            AlreadyExists: Another one that is accepted claims the same.
            ConfigurationInvalid: The API server refuses it.
        """
        self._unclaimed(entity)
        for name in names.candidates(self.kind.key(entity)):
            try:
                made = self.server.create(name, self.kind.spec(entity, name))
            except AlreadyExists:  # its name in other letters, or somebody was quicker
                self.watched.refresh()
                self._unclaimed(entity)
                continue
            self.watched.put(made)
            return self.kind.entity(made)
        raise AlreadyExists(self.kind.exists(entity))

    def replace(self, key: str, entity: EntityT, host: str | None = None) -> EntityT:
        """Give a resource what another entity says.

        Raises:
            AlreadyExists: Another one claims what the new entity does.
            ConfigurationInvalid: It has another name, the API server refuses it, or somebody has changed it meanwhile.
        """
        resource, before = self._one(key, host)
        called, wanted = (getattr(each, "name", None) for each in (before, entity))
        if called != wanted:
            raise ConfigurationInvalid(
                [f"The name of {self.kind.words} {called} cannot be changed; add another one, and delete this one."]
            )
        name = str(resource["metadata"]["name"])
        self._unclaimed(entity, besides=name)
        changed = self.server.replace(resource, self.kind.spec(entity, name))
        self.watched.update(changed)
        return self.kind.entity(changed)

    def remove(self, key: str, host: str | None = None) -> EntityT:
        """Remove a resource."""
        resource, entity = self._one(key, host)
        self.server.delete(resource)
        self.watched.drop(resource)
        return entity

    # ---- which one ----

    def _one(self, key: str, host: str | None) -> tuple[Resource, EntityT]:
        accepted = {
            each.name: (each.resource, each.entity) for each in self.verdicts().values() if each.entity is not None
        }
        for finds in self.kind.found_by:
            found = [each for each in accepted.values() if finds(each[1], key, host)]
            if len(found) > 1:
                which = ", ".join(sorted(self.kind.key(entity) for _, entity in found))
                raise ConfigurationInvalid([f"{self.kind.words} {key} is there several times, say which: {which}."])
            if found:
                return found[0]
        if key in accepted:  # the resource's own name
            return accepted[key]
        raise NotFound(self.kind.words, key if host is None else f"{key} at {host}")

    def _unclaimed(self, entity: EntityT, besides: str = "") -> None:
        wanted = set(self.kind.claims(entity))
        for name, verdict in self.verdicts().items():
            if name != besides and verdict.entity is not None and wanted & set(self.kind.claims(verdict.entity)):
                raise AlreadyExists(self.kind.exists(entity))


def _in_force(verdicts: Mapping[str, Verdict[EntityT]]) -> dict[str, tuple[EntityT, int]]:
    return {name: (each.entity, each.generation) for name, each in verdicts.items() if each.entity is not None}
