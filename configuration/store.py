"""The store of AE titles, sources and destinations in SQL; changes take effect without a restart.

Everyone who caches what is configured compares :meth:`ConfigurationStore.revision`, which every change moves on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from sqlalchemy import Connection, Delete, Engine, RowMapping, delete, insert, select, update

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Source
from clara_dicom_adapter.configuration.entity_store import EntityStores, EntityT
from clara_dicom_adapter.configuration.pinning import pinned
from clara_dicom_adapter.configuration.resource_names import source_name
from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.configuration.tables import (
    ClaraAeTitleRow,
    CounterRow,
    DestinationRow,
    SourceRow,
    WebDestinationRow,
    reading,
)
from clara_dicom_adapter.errors import AlreadyExists, ConfigurationInvalid, NotFound
from clara_dicom_adapter.workflows.models import PinnedAeTitle

REVISION = "configuration"
_SOURCES = select(SourceRow.ae_title, SourceRow.host_ip).order_by(SourceRow.ae_title, SourceRow.host_ip)


class ConfigurationStore:
    """What an operator configures; thread-safe, every call one transaction.

    Args:
        scp: Defaults that AE titles are pinned with.
        storage: Likewise.
    """

    def __init__(self, engine: Engine, scp: ScpSettings | None = None, storage: StorageSettings | None = None) -> None:
        self._engine = engine
        self._scp = scp or ScpSettings()
        self._storage = storage or StorageSettings()

    def revision(self) -> int:
        """A number that grows with every change; cheap."""
        with reading(self._engine) as connection:
            return connection.scalar(select(CounterRow.value).where(CounterRow.name == REVISION)) or 0

    @property
    def entities(self) -> EntityStores:
        """The same by kind, for who treats all kinds alike."""
        return EntityStores(
            clara_ae_titles=_OneKind(
                self.clara_ae_titles,
                lambda key, host: self.clara_ae_title(key),
                self.add_clara_ae_title,
                lambda key, entity, host: self.replace_clara_ae_title(key, entity),
                lambda key, host: self.remove_clara_ae_title(key),
            ),
            sources=_OneKind(self.sources, self.source, self.add_source, self.replace_source, self.remove_source),
            destinations=_OneKind(
                self.destinations,
                lambda key, host: self.destination(key),
                self.add_destination,
                lambda key, entity, host: self.replace_destination(key, entity),
                lambda key, host: self.remove_destination(key),
            ),
        )

    # ---- Clara AE titles ----

    def clara_ae_titles(self) -> list[ClaraAeTitle]:
        return [entity for entity, _ in self._clara_ae_titles()]

    def ae_titles(self) -> Sequence[tuple[ClaraAeTitle, PinnedAeTitle]]:
        """Our AE titles, each with what an association is pinned to."""
        return [
            (entity, pinned(entity, self._scp, self._storage, revision)) for entity, revision in self._clara_ae_titles()
        ]

    def pinned(self, ae: ClaraAeTitle, scp: ScpSettings | None = None) -> PinnedAeTitle:
        """What an association that begins now is pinned to."""
        with reading(self._engine) as connection:
            revision = connection.scalar(select(ClaraAeTitleRow.revision).where(ClaraAeTitleRow.name == ae.name))
        return pinned(ae, scp or self._scp, self._storage, revision or 0)

    def clara_ae_title(self, key: str) -> ClaraAeTitle:
        """The one of that name, or else of that AE title; raises NotFound."""
        with reading(self._engine) as connection:
            return _clara_ae_title(connection, key)

    def add_clara_ae_title(self, entity: ClaraAeTitle) -> ClaraAeTitle:
        """Add one; raises AlreadyExists, or ConfigurationInvalid when its processor settings are not acceptable."""
        checks.clara_ae_title(entity)
        with self._engine.begin() as connection:
            revision = _next_revision(connection)
            for column, value in ((ClaraAeTitleRow.name, entity.name), (ClaraAeTitleRow.ae_title, entity.ae_title)):
                if connection.scalar(select(ClaraAeTitleRow.name).where(column == value)) is not None:
                    raise AlreadyExists(f"Clara AE Title {value} already exists.")
            values = entity.model_dump(mode="json") | {"revision": revision}
            connection.execute(insert(ClaraAeTitleRow).values(values))
        return entity

    def replace_clara_ae_title(self, key: str, entity: ClaraAeTitle) -> ClaraAeTitle:
        """Put another one in the place of that name, or else of that AE title.

        Raises:
            NotFound: There is none.
            AlreadyExists: The new AE title is another one's.
            ConfigurationInvalid: It is not acceptable, or bears another name.
        """
        checks.clara_ae_title(entity)
        with self._engine.begin() as connection:
            revision = _next_revision(connection)
            name = _clara_ae_title(connection, key).name
            _same_name("Clara AE Title", name, entity.name)
            theirs = select(ClaraAeTitleRow.name).where(
                ClaraAeTitleRow.ae_title == entity.ae_title, ClaraAeTitleRow.name != name
            )
            if connection.scalar(theirs) is not None:
                raise AlreadyExists(f"Clara AE Title {entity.ae_title} already exists.")
            values = entity.model_dump(mode="json") | {"revision": revision}
            connection.execute(update(ClaraAeTitleRow).where(ClaraAeTitleRow.name == name).values(values))
        return entity

    def remove_clara_ae_title(self, key: str) -> ClaraAeTitle:
        """Remove the one of that name, or else of that AE title; what it has received is not touched."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            entity = _clara_ae_title(connection, key)
            connection.execute(delete(ClaraAeTitleRow).where(ClaraAeTitleRow.name == entity.name))
        return entity

    # ---- sources ----

    def sources(self) -> list[Source]:
        with reading(self._engine) as connection:
            return [Source(ae_title=row.ae_title, host_ip=row.host_ip) for row in connection.execute(_SOURCES)]

    def source(self, key: str, host_ip: str | None = None) -> Source:
        """One source, by AE title or else by its name as a resource; an AE title with several hosts needs the host.

        Raises:
            NotFound: There is none.
            ConfigurationInvalid: The AE title has several hosts and none was given.
        """
        with reading(self._engine) as connection:
            return _source(connection, key, host_ip)

    def add_source(self, entity: Source) -> Source:
        """Add one; the same AE title may come again with another host. Raises AlreadyExists."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            _add_source(connection, entity)
        return entity

    def replace_source(self, key: str, entity: Source, host_ip: str | None = None) -> Source:
        """Put another one in the place of one; raises as :meth:`source`, and AlreadyExists."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            connection.execute(_delete_source(_source(connection, key, host_ip)))
            _add_source(connection, entity)
        return entity

    def remove_source(self, key: str, host_ip: str | None = None) -> Source:
        """Remove one; raises as :meth:`source`."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            entity = _source(connection, key, host_ip)
            connection.execute(_delete_source(entity))
        return entity

    # ---- destinations ----

    def destinations(self) -> list[Destination]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(DestinationRow.__table__).order_by(DestinationRow.name)).mappings()
            return [_destination_of(row) for row in rows]

    def destination(self, key: str) -> Destination:
        """The one of that name, in any case of its letters, or else of that AE title.

        Raises:
            NotFound: There is none.
            ConfigurationInvalid: Several have that AE title.
        """
        with reading(self._engine) as connection:
            return _destination(connection, key)

    def add_destination(self, entity: Destination) -> Destination:
        """Add one; names are unique without regard to case. Raises AlreadyExists."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            key = entity.name.casefold()
            if connection.scalar(select(DestinationRow.name).where(DestinationRow.name_key == key)) is not None:
                raise AlreadyExists(f"Destination with name {entity.name} already exists.")
            if connection.scalar(select(WebDestinationRow.name).where(WebDestinationRow.name_key == key)) is not None:
                raise AlreadyExists(f"Destination with name {entity.name} already exists.")
            connection.execute(insert(DestinationRow).values(entity.model_dump(mode="json") | {"name_key": key}))
        return entity

    def replace_destination(self, key: str, entity: Destination) -> Destination:
        """Put another one in the place of one; raises as :meth:`destination`, and for another name."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            name = _destination(connection, key).name
            if name.casefold() != entity.name.casefold():
                _same_name("Destination", name, entity.name)
            values = entity.model_dump(mode="json") | {"name_key": entity.name.casefold()}
            connection.execute(update(DestinationRow).where(DestinationRow.name == name).values(values))
        return entity

    def remove_destination(self, key: str) -> Destination:
        """Remove one; raises as :meth:`destination`."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            entity = _destination(connection, key)
            connection.execute(delete(DestinationRow).where(DestinationRow.name == entity.name))
        return entity

    def _clara_ae_titles(self) -> list[tuple[ClaraAeTitle, int]]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(ClaraAeTitleRow.__table__).order_by(ClaraAeTitleRow.name)).mappings()
            return [(_clara_of(row), row["revision"]) for row in rows]


@dataclass(frozen=True)
class _OneKind(Generic[EntityT]):
    """An :class:`EntityStore` of functions."""

    all: Callable[[], list[EntityT]]
    get_one: Callable[[str, str | None], EntityT]
    add_one: Callable[[EntityT], EntityT]
    replace_one: Callable[[str, EntityT, str | None], EntityT]
    remove_one: Callable[[str, str | None], EntityT]

    def get(self, key: str, host: str | None = None) -> EntityT:
        return self.get_one(key, host)

    def add(self, entity: EntityT) -> EntityT:
        return self.add_one(entity)

    def replace(self, key: str, entity: EntityT, host: str | None = None) -> EntityT:
        return self.replace_one(key, entity, host)

    def remove(self, key: str, host: str | None = None) -> EntityT:
        return self.remove_one(key, host)


def _next_revision(connection: Connection) -> int:
    """Move the revision on; first in every change, so that writers wait for each other here."""
    moved = connection.execute(
        update(CounterRow)
        .where(CounterRow.name == REVISION)
        .values(value=CounterRow.value + 1)
        .returning(CounterRow.value)
    ).scalar_one()
    return int(moved)


def _clara_ae_title(connection: Connection, key: str) -> ClaraAeTitle:
    for column in (ClaraAeTitleRow.name, ClaraAeTitleRow.ae_title):
        row = connection.execute(select(ClaraAeTitleRow.__table__).where(column == key)).mappings().first()
        if row is not None:
            return _clara_of(row)
    raise NotFound("Clara AE Title", key)


def _source(connection: Connection, key: str, host_ip: str | None) -> Source:
    known = [Source(ae_title=row.ae_title, host_ip=row.host_ip) for row in connection.execute(_SOURCES)]
    found = [each for each in known if each.ae_title == key]
    found = found or [each for each in known if source_name(each.ae_title, each.host_ip) == key]
    if host_ip is not None:
        found = [each for each in found if each.host_ip.casefold() == host_ip.casefold()]
    if not found:
        raise NotFound("Source", key if host_ip is None else f"{key} at {host_ip}")
    if len(found) > 1:
        hosts = ", ".join(sorted(each.host_ip for each in found))
        raise ConfigurationInvalid([f"Source {key} has several hosts, say which: {hosts}."])
    return found[0]


def _add_source(connection: Connection, entity: Source) -> None:
    known = connection.scalars(select(SourceRow.host_ip).where(SourceRow.ae_title == entity.ae_title))
    if entity.host_ip.casefold() in {host.casefold() for host in known}:
        raise AlreadyExists(f"Source with AE Title {entity.ae_title} already exists.")
    connection.execute(insert(SourceRow).values(entity.model_dump()))


def _delete_source(entity: Source) -> Delete:
    return delete(SourceRow).where(SourceRow.ae_title == entity.ae_title, SourceRow.host_ip == entity.host_ip)


def _destination(connection: Connection, key: str) -> Destination:
    for column, value in ((DestinationRow.name_key, key.casefold()), (DestinationRow.ae_title, key)):
        statement = select(DestinationRow.__table__).where(column == value).order_by(DestinationRow.name)
        found = [_destination_of(row) for row in connection.execute(statement).mappings()]
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise ConfigurationInvalid([f"AE Title {key} is that of several destinations, say which: {names}."])
        if found:
            return found[0]
    raise NotFound("Destination", key)


def _same_name(kind: str, name: str, wanted: str) -> None:
    if name != wanted:
        raise ConfigurationInvalid(
            [f"The name of {kind} {name} cannot be changed to '{wanted[:100]}'; add another one, and delete this one."]
        )


def _clara_of(row: RowMapping) -> ClaraAeTitle:
    values = dict(row)
    del values["revision"]
    return ClaraAeTitle.model_validate(values)


def _destination_of(row: RowMapping) -> Destination:
    values = dict(row)
    del values["name_key"]
    return Destination.model_validate(values)
