"""Where AE titles, sources and destinations are kept, as REST and the command line see it: one interface for all kinds.

The SQL store is one implementation (:attr:`configuration.store.ConfigurationStore.entities`); an adapter that is spoken
to over REST is another (:mod:`cli.remote`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source

EntityT = TypeVar("EntityT", bound=Entity)


class EntityStore(Protocol[EntityT]):
    """The entities of one kind; every call is one transaction.

    ``key`` is a name or an AE title: of a Clara AE title and a destination the name comes first, of a source the AE
    title. ``host`` chooses between the hosts of a source, and means nothing for the other kinds.

    Every method but :meth:`all` raises NotFound for a key of nobody, and ConfigurationInvalid for one of several.
    """

    def all(self) -> Sequence[EntityT]:
        """All of them, in the order of their keys."""
        ...

    def get(self, key: str, host: str | None = None) -> EntityT:
        """One of them."""
        ...

    def add(self, entity: EntityT) -> EntityT:
        """Add one; raises AlreadyExists."""
        ...

    def replace(self, key: str, entity: EntityT, host: str | None = None) -> EntityT:
        """Put another one in its place; groups that are open stay as they were received.

        Raises:
            AlreadyExists: Its AE title or host is another one's already.
            ConfigurationInvalid: Its name is not that of the one in place.
        """
        ...

    def remove(self, key: str, host: str | None = None) -> EntityT:
        """Remove one, and return it; groups that are open go their way."""
        ...


@dataclass(frozen=True)
class EntityStores:
    """The stores of all kinds; each kind may be kept elsewhere."""

    clara_ae_titles: EntityStore[ClaraAeTitle]
    sources: EntityStore[Source]
    destinations: EntityStore[Destination]

    def of(self, kind: type[EntityT]) -> EntityStore[EntityT]:
        """The store of one kind."""
        stores: dict[type[Entity], object] = {
            ClaraAeTitle: self.clara_ae_titles,
            Source: self.sources,
            Destination: self.destinations,
        }
        return cast(EntityStore[EntityT], stores[kind])
