"""What is configured, as the verdict needs it: read ahead, resolved ahead, and still there when the database is not.

How it works: one thread asks the configuration about once a second whether it has changed, another keeps the addresses
of host names fresh. Both only replace one immutable snapshot, which is all that an association ever looks at. A copy
lies in the spool's folder, so that a receiver can start while the database cannot be reached.
"""

import os
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import BaseModel, ValidationError

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Source
from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.receiver.acceptance import KnownAeTitle, KnownApplicationEntities, canonical_address
from clara_dicom_adapter.workflows.models import PinnedAeTitle

log = structlog.get_logger("clara_dicom_adapter.receiver")

POLL_SECONDS = 1.0
RESOLVE_SECONDS = 60.0
_FIRST_RESOLVE_SECONDS = 2.0
"""How long a start waits for the name server; a slow one must not keep the receiver from starting."""


class ConfigurationSource(Protocol):
    """Where AE titles and sources are configured; ``configuration.store.ConfigurationStore`` is one."""

    def revision(self) -> int:
        """A number that changes whenever anything does; cheap."""
        ...

    def ae_titles(self) -> Sequence[tuple[ClaraAeTitle, PinnedAeTitle]]:
        """Our AE titles, each with what an association is pinned to."""
        ...

    def sources(self) -> Sequence[Source]:
        """Who may send to us."""
        ...


class _AeTitleCopy(BaseModel):
    entity: ClaraAeTitle
    pinned: PinnedAeTitle


class KnownCopy(BaseModel):
    """The snapshot as it lies in the spool's folder, and as listeners are told it."""

    ae_titles: tuple[_AeTitleCopy, ...] = ()
    sources: tuple[Source, ...] = ()
    addresses: dict[str, tuple[str, ...]] = {}


def resolve_host(host: str) -> frozenset[str]:
    """The addresses of a host name or literal address, in canonical spelling; empty when it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(canonical_address(str(entry[4][0])) for entry in found)


class KnownKeeper:
    """Keeps the newest :class:`KnownApplicationEntities` at hand."""

    def __init__(
        self,
        source: ConfigurationSource,
        copy: Path,
        *,
        poll_seconds: float = POLL_SECONDS,
        resolve: Callable[[str], Collection[str]] = resolve_host,
        changed: Callable[[KnownCopy], None] = lambda known: None,
    ) -> None:
        """Args:
        copy: Path of the copy.
        changed: Told of every new snapshot.
        """
        self._source = source
        self._file = copy
        self._poll_seconds = poll_seconds
        self._resolve = resolve
        self._changed = changed
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._hosts_changed = threading.Event()
        self._resolved = threading.Event()
        self._threads: list[threading.Thread] = []
        self._revision: int | None = None
        self._data = KnownCopy()
        self.current: KnownApplicationEntities | None = None
        """None until something has been read, from the configuration or from its copy."""
        self.reachable = False
        """Whether the last look at the configuration succeeded."""

    def start(self) -> None:
        """Read once, from the copy if need be, and keep reading in the background."""
        self._load_copy()
        self.refresh()
        for name, target in (("known-entities", self._watch), ("known-hosts", self._keep_resolved)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        if self.current is not None:
            self._hosts_changed.set()
            self._resolved.wait(_FIRST_RESOLVE_SECONDS)

    @property
    def copy(self) -> KnownCopy | None:
        """The newest snapshot, to be told to others; None until something has been read."""
        with self._lock:
            return self._data if self.current is not None else None

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._hosts_changed.set()
        for thread in self._threads:
            thread.join(2 * self._poll_seconds)  # one that hangs in a name server ends with the process

    def refresh(self) -> bool:
        """Look at the configuration now; False when it could not be read."""
        try:
            revision = self._source.revision()
            if revision != self._revision:
                ae_titles = tuple(
                    _AeTitleCopy(entity=entity, pinned=pinned) for entity, pinned in self._source.ae_titles()
                )
                sources = tuple(self._source.sources())
                self._publish(ae_titles=ae_titles, sources=sources)
                self._revision = revision
                self._hosts_changed.set()
        except Exception as error:  # whatever a database driver raises; the last snapshot stays in force
            if self.reachable or self._revision is None:
                reason = str(error) if isinstance(error, AdapterError) else ""  # of others it may hold anything
                log.warning("configuration_unreachable", error=type(error).__name__, reason=reason)
            self.reachable = False
            return False
        self.reachable = True
        return True

    def resolve_now(self) -> None:
        """Look every host name up; one that cannot be resolved keeps the addresses it had."""
        with self._lock:
            hosts = {source.host_ip for source in self._data.sources}
        found: dict[str, tuple[str, ...]] = {}
        for host in sorted(hosts):
            addresses = self._resolve(host)
            if addresses:
                found[host] = tuple(sorted(addresses))
        with self._lock:
            changed = any(self._data.addresses.get(host) != addresses for host, addresses in found.items())
        if changed:
            self._publish(addresses=found)

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            self.refresh()

    def _keep_resolved(self) -> None:
        while not self._stopping.is_set():
            self._hosts_changed.wait(RESOLVE_SECONDS)
            self._hosts_changed.clear()
            if not self._stopping.is_set():
                self.resolve_now()
                self._resolved.set()

    def _publish(
        self,
        ae_titles: tuple[_AeTitleCopy, ...] | None = None,
        sources: tuple[Source, ...] | None = None,
        addresses: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        with self._lock:
            data = KnownCopy(
                ae_titles=self._data.ae_titles if ae_titles is None else ae_titles,
                sources=self._data.sources if sources is None else sources,
                addresses={**self._data.addresses, **(addresses or {})},
            )
            hosts = {source.host_ip for source in data.sources}
            data.addresses = {host: found for host, found in data.addresses.items() if host in hosts}
            self._data = data
            self.current = snapshot(data)
            self._changed(data)
            self._save_copy(data)

    def _load_copy(self) -> None:
        try:
            self._data = KnownCopy.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            log.warning("configuration_copy_unusable", path=str(self._file), error=type(error).__name__)
            return
        self.current = snapshot(self._data)
        self._changed(self._data)

    def _save_copy(self, data: KnownCopy) -> None:
        part = self._file.with_suffix(".part")
        try:
            with part.open("w", encoding="utf-8") as stream:
                stream.write(data.model_dump_json())
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self._file)
        except OSError as error:
            log.warning("configuration_copy_not_written", path=str(self._file), error=type(error).__name__)


def snapshot(data: KnownCopy) -> KnownApplicationEntities:
    """What a verdict looks at."""
    sources: dict[str, set[str]] = {}
    for source in data.sources:
        # a literal address needs no looking up, and must work at once
        addresses = data.addresses.get(source.host_ip, (canonical_address(source.host_ip),))
        sources.setdefault(source.ae_title, set()).update(addresses)
    return KnownApplicationEntities(
        ae_titles={
            entry.entity.ae_title: KnownAeTitle(entity=entry.entity, pinned=entry.pinned) for entry in data.ae_titles
        },
        sources={ae_title: frozenset(addresses) for ae_title, addresses in sources.items()},
    )
