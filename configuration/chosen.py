"""Where each kind of entity is kept: in SQL, or elsewhere, kind by kind, as the settings choose.

``configuration.store.ConfigurationStore`` keeps them in SQL; ``resources`` keeps a kind as Kubernetes resources.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source
from clara_dicom_adapter.configuration.entity_store import EntityStores
from clara_dicom_adapter.configuration.pinning import pinned
from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.workflows.models import PinnedAeTitle

EntityT = TypeVar("EntityT", bound=Entity)


class Configuration(Protocol):
    """What an operator configures, wherever it is kept; the methods are those of ``ConfigurationStore``."""

    @property
    def entities(self) -> EntityStores: ...

    def revision(self) -> int: ...
    def pinned(self, ae: ClaraAeTitle, scp: ScpSettings | None = None) -> PinnedAeTitle: ...

    def clara_ae_titles(self) -> list[ClaraAeTitle]: ...
    def ae_titles(self) -> Sequence[tuple[ClaraAeTitle, PinnedAeTitle]]: ...
    def clara_ae_title(self, key: str) -> ClaraAeTitle: ...
    def add_clara_ae_title(self, entity: ClaraAeTitle) -> ClaraAeTitle: ...
    def remove_clara_ae_title(self, key: str) -> ClaraAeTitle: ...

    def sources(self) -> list[Source]: ...
    def source(self, key: str, host_ip: str | None = None) -> Source: ...
    def add_source(self, entity: Source) -> Source: ...
    def remove_source(self, key: str, host_ip: str | None = None) -> Source: ...

    def destinations(self) -> list[Destination]: ...
    def destination(self, key: str) -> Destination: ...
    def add_destination(self, entity: Destination) -> Destination: ...
    def remove_destination(self, key: str) -> Destination: ...


class Kept(Protocol[EntityT]):
    """The entities of one kind, kept elsewhere than in SQL.

    ``key`` is a name or an AE title, ``host`` chooses between the hosts of a source. What is not there raises NotFound.
    """

    def revision(self) -> int:
        """A number that grows with every change; cheap."""
        ...

    def all(self) -> Sequence[EntityT]: ...

    def revised(self) -> Sequence[tuple[EntityT, int]]:
        """All of them, each with a number that grows when it changes."""
        ...

    def get(self, key: str, host: str | None = None) -> EntityT: ...
    def add(self, entity: EntityT) -> EntityT: ...
    def replace(self, key: str, entity: EntityT, host: str | None = None) -> EntityT: ...
    def remove(self, key: str, host: str | None = None) -> EntityT: ...


class ChosenConfiguration:
    """A :class:`Configuration` that keeps each kind where the settings say.

    Args:
        sql: Keeps the kinds that nobody else keeps; opened at the first use, so that its database may be away.
        scp: Defaults that AE titles are pinned with.
        storage: Likewise.
    """

    def __init__(
        self,
        sql: Callable[[], Configuration],
        scp: ScpSettings,
        storage: StorageSettings,
        *,
        ae_titles: Kept[ClaraAeTitle] | None = None,
        sources: Kept[Source] | None = None,
        destinations: Kept[Destination] | None = None,
    ) -> None:
        self._sql = sql
        self._scp = scp
        self._storage = storage
        self._ae_titles = ae_titles
        self._sources = sources
        self._destinations = destinations

    def revision(self) -> int:
        """The sum of their revisions, of which each only grows."""
        revisions = [each.revision() for each in (self._ae_titles, self._sources, self._destinations) if each]
        return sum(revisions) if len(revisions) == 3 else sum(revisions) + self._sql().revision()

    @property
    def entities(self) -> EntityStores:
        """The same by kind."""
        return EntityStores(
            clara_ae_titles=self._ae_titles or self._sql().entities.clara_ae_titles,
            sources=self._sources or self._sql().entities.sources,
            destinations=self._destinations or self._sql().entities.destinations,
        )

    def pinned(self, ae: ClaraAeTitle, scp: ScpSettings | None = None) -> PinnedAeTitle:
        """What an association that begins now is pinned to."""
        if not self._ae_titles:
            return self._sql().pinned(ae, scp)
        revision = next((each for entity, each in self._ae_titles.revised() if entity.name == ae.name), 0)
        return pinned(ae, scp or self._scp, self._storage, revision)

    # ---- Clara AE titles ----

    def clara_ae_titles(self) -> list[ClaraAeTitle]:
        return list(self._ae_titles.all()) if self._ae_titles else self._sql().clara_ae_titles()

    def ae_titles(self) -> Sequence[tuple[ClaraAeTitle, PinnedAeTitle]]:
        """Our AE titles, each with what an association is pinned to."""
        if not self._ae_titles:
            return self._sql().ae_titles()
        return [
            (entity, pinned(entity, self._scp, self._storage, revision))
            for entity, revision in self._ae_titles.revised()
        ]

    def clara_ae_title(self, key: str) -> ClaraAeTitle:
        return self._ae_titles.get(key) if self._ae_titles else self._sql().clara_ae_title(key)

    def add_clara_ae_title(self, entity: ClaraAeTitle) -> ClaraAeTitle:
        return self._ae_titles.add(entity) if self._ae_titles else self._sql().add_clara_ae_title(entity)

    def remove_clara_ae_title(self, key: str) -> ClaraAeTitle:
        return self._ae_titles.remove(key) if self._ae_titles else self._sql().remove_clara_ae_title(key)

    # ---- sources ----

    def sources(self) -> list[Source]:
        return list(self._sources.all()) if self._sources else self._sql().sources()

    def source(self, key: str, host_ip: str | None = None) -> Source:
        return self._sources.get(key, host_ip) if self._sources else self._sql().source(key, host_ip)

    def add_source(self, entity: Source) -> Source:
        return self._sources.add(entity) if self._sources else self._sql().add_source(entity)

    def remove_source(self, key: str, host_ip: str | None = None) -> Source:
        return self._sources.remove(key, host_ip) if self._sources else self._sql().remove_source(key, host_ip)

    # ---- destinations ----

    def destinations(self) -> list[Destination]:
        return list(self._destinations.all()) if self._destinations else self._sql().destinations()

    def destination(self, key: str) -> Destination:
        return self._destinations.get(key) if self._destinations else self._sql().destination(key)

    def add_destination(self, entity: Destination) -> Destination:
        return self._destinations.add(entity) if self._destinations else self._sql().add_destination(entity)

    def remove_destination(self, key: str) -> Destination:
        return self._destinations.remove(key) if self._destinations else self._sql().remove_destination(key)
