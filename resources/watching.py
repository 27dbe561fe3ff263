"""All resources of one kind as the API server has them, or had them when it last answered.

Level-based: a list says everything, a watch says what has changed since, and whenever the watch may have missed
something a new list replaces everything. A copy on disk serves after a restart while the API server is away.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog

from clara_dicom_adapter.errors import KubernetesUnavailable
from clara_dicom_adapter.resources.kinds import Resource, name_of

log = structlog.get_logger("clara_dicom_adapter.resources")

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class Gap(Exception):
    """The API server does not know any more what came after the version that was asked for: list again."""


class Watchable(Protocol):
    """What is watched; ``resources.server.ResourceServer`` is one."""

    @property
    def address(self) -> str: ...

    def listed(self) -> tuple[Sequence[Resource], str]: ...
    def events(self, version: str) -> Iterator[tuple[str, Resource]]: ...
    def stop(self) -> None: ...


class Watched:
    """Keeps the resources of one kind at hand.

    Args:
        kind: Its name, for the log.
        copy: Path of the copy on disk; none: no copy.
        changed: Told after every change, from any thread.
    """

    def __init__(self, server: Watchable, kind: str, copy: Path | None, changed: Callable[[], None]) -> None:
        self._server = server
        self._kind = kind
        self._copy = copy
        self._changed = changed
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._known = threading.Event()
        self._objects: dict[str, Resource] = {}
        self._thread: threading.Thread | None = None
        self.number = 0
        """Moves on with every change."""
        self.trouble: KubernetesUnavailable | None = None
        """Why what is at hand may be old; None while the watch runs."""

    def start(self) -> None:
        """Begin to watch; until the first list the copy serves."""
        if self._copy is not None:
            self._load(self._copy)
        self._thread = threading.Thread(target=self._follow, name=f"watch-{self._kind}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until something is known, at most so long."""
        return self._known.wait(seconds)

    def stop(self) -> None:
        """End the watch."""
        self._stopping.set()
        self._server.stop()
        if self._thread is not None:
            self._thread.join(_LONGEST_PAUSE)

    def refresh(self) -> None:
        """List now; for who does not watch."""
        objects, _ = self._server.listed()
        self._take_all(objects)

    def resources(self) -> tuple[int, list[Resource]]:
        """The number of the last change, and all of them.

        Raises:
            KubernetesUnavailable: Nothing has ever been read, and there is no copy.
        """
        with self._lock:
            if not self._known.is_set():
                raise self.trouble or KubernetesUnavailable(
                    self._server.address, f"it has not answered yet with the {self._kind}"
                )
            return self.number, list(self._objects.values())

    def put(self, resource: Resource) -> None:
        """Take what the API server has answered to a change of ours, before the watch tells it."""
        self._put(resource)

    def update(self, resource: Resource) -> None:
        """The same for one that was there before; what the watch says has been removed meanwhile stays so."""
        self._put(resource, only_there=True)

    def drop(self, resource: Resource) -> None:
        """The same for what we have removed."""
        with self._lock:
            held = self._objects.get(name_of(resource))
            if held is None or held["metadata"]["uid"] != resource["metadata"]["uid"]:
                return
            del self._objects[name_of(resource)]
            self.number += 1
        self._changed()

    def _put(self, resource: Resource, *, only_there: bool = False) -> None:
        with self._lock:
            held = self._objects.get(name_of(resource))
            if held is None or held["metadata"]["uid"] != resource["metadata"]["uid"]:
                if only_there:
                    return
            elif _version(held) > _version(resource):
                return  # the watch was quicker, and has told of a later change already
            self._objects[name_of(resource)] = resource
            self.number += 1
        self._changed()

    def save(self) -> None:
        """Write the copy."""
        if self._copy is None:
            return
        _, resources = self.resources()
        part = self._copy.with_suffix(f".{os.getpid()}.part")
        try:
            self._copy.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8") as stream:
                json.dump(resources, stream)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self._copy)
        except OSError as error:
            log.warning("resources_copy_not_written", path=str(self._copy), error=type(error).__name__)

    def _load(self, copy: Path) -> None:
        try:
            found = {name_of(each): each for each in json.loads(copy.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("resources_copy_unusable", path=str(copy), error=type(error).__name__)
            return
        self._take_all(found.values())

    # ---- the watch ----

    def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._list_and_watch()
            except Gap:
                log.info("resources_listed_anew", kind=self._kind)
            except Exception as error:  # whatever the library raises must not end the watch
                self._away(error)
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE  # it was well for a while
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _list_and_watch(self) -> None:
        objects, version = self._server.listed()
        self._take_all(objects)
        if self.trouble is not None:
            log.info("kubernetes_answers_again", kind=self._kind)
        self.trouble = None
        while not self._stopping.is_set():
            began = time.monotonic()
            for change, resource in self._server.events(version):
                version = str(resource["metadata"]["resourceVersion"])
                self._take(change, resource)
            if time.monotonic() - began < _LONGEST_PAUSE:
                return  # a watch that ends at once is none: list again, after a pause

    def _away(self, error: Exception) -> None:
        if self._stopping.is_set():
            return
        if self.trouble is None:
            log.warning("kubernetes_away", kind=self._kind, reason=str(error), count=len(self._objects))
        if not isinstance(error, KubernetesUnavailable):
            error = KubernetesUnavailable(self._server.address, f"{type(error).__name__}: {error}")
        self.trouble = error

    def _take_all(self, resources: Iterable[Resource]) -> None:
        found = {name_of(resource): resource for resource in resources}
        with self._lock:
            first = not self._known.is_set()
            changed = first or found != self._objects
            self._objects = found
            self.number += changed
            self._known.set()
        if changed:
            self._changed()

    def _take(self, change: str, resource: Resource) -> None:
        if change in {"ADDED", "MODIFIED"}:
            with self._lock:
                if self._objects.get(name_of(resource)) == resource:
                    return
            self.put(resource)
        elif change == "DELETED":
            self.drop(resource)


def _version(resource: Resource) -> int:
    """Grows with every change of what is in the store; 0 where the API server counts otherwise."""
    version = str(resource["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0
