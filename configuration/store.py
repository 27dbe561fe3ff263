"""The store of AE titles, sources and destinations in SQL; changes take effect without a restart.

Everyone who caches what is configured compares :meth:`ConfigurationStore.revision`, which every change moves on.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Source
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
from clara_dicom_adapter.workflows.models import InterruptedPolicy, PinnedAeTitle

REVISION = "configuration"
DEFAULT_TIMEOUT_SECONDS = 5.0
"""Of AE titles that say nothing about it (0.8)."""
DEFAULT_GROUP_BY = "0020,000D"


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
            rows = connection.execute(
                select(SourceRow.ae_title, SourceRow.host_ip).order_by(SourceRow.ae_title, SourceRow.host_ip)
            )
            return [Source(ae_title=row.ae_title, host_ip=row.host_ip) for row in rows]

    def source(self, ae_title: str, host_ip: str | None = None) -> Source:
        """One source; the host is needed when the AE title has several.

        Raises:
            NotFound: There is none.
            ConfigurationInvalid: The AE title has several hosts and none was given.
        """
        with reading(self._engine) as connection:
            return _source(connection, ae_title, host_ip)

    def add_source(self, entity: Source) -> Source:
        """Add one; the same AE title may come again with another host. Raises AlreadyExists."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            known = connection.scalars(select(SourceRow.host_ip).where(SourceRow.ae_title == entity.ae_title))
            if entity.host_ip.casefold() in {host.casefold() for host in known}:
                raise AlreadyExists(f"Source with AE Title {entity.ae_title} already exists.")
            connection.execute(insert(SourceRow).values(entity.model_dump()))
        return entity

    def remove_source(self, ae_title: str, host_ip: str | None = None) -> Source:
        """Remove one; raises as :meth:`source`."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            entity = _source(connection, ae_title, host_ip)
            connection.execute(
                delete(SourceRow).where(SourceRow.ae_title == entity.ae_title, SourceRow.host_ip == entity.host_ip)
            )
        return entity

    # ---- destinations ----

    def destinations(self) -> list[Destination]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(DestinationRow.__table__).order_by(DestinationRow.name)).mappings()
            return [_destination_of(row) for row in rows]

    def destination(self, name: str) -> Destination:
        """The one of that name, in any case of its letters; raises NotFound."""
        with reading(self._engine) as connection:
            return _destination(connection, name)

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

    def remove_destination(self, name: str) -> Destination:
        """Remove one; raises NotFound."""
        with self._engine.begin() as connection:
            _next_revision(connection)
            entity = _destination(connection, name)
            connection.execute(delete(DestinationRow).where(DestinationRow.name == entity.name))
        return entity

    def _clara_ae_titles(self) -> list[tuple[ClaraAeTitle, int]]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(ClaraAeTitleRow.__table__).order_by(ClaraAeTitleRow.name)).mappings()
            return [(_clara_of(row), row["revision"]) for row in rows]


def pinned(ae: ClaraAeTitle, scp: ScpSettings, storage: StorageSettings, revision: int = 0) -> PinnedAeTitle:
    """What an association that begins now is pinned to; settings were checked when they came in."""
    settings = {key.strip().lower(): value.strip() for key, value in ae.processor_settings.items()}
    maximum = settings.get(checks.MAXIMUM_WINDOW.lower())
    return PinnedAeTitle(
        ae_title=ae.ae_title,
        name=ae.name,
        revision=revision,
        processor=ae.processor,
        processor_settings=ae.processor_settings,
        timeout_seconds=float(settings.get("timeout") or DEFAULT_TIMEOUT_SECONDS),
        group_by=_group_by(settings.get("groupby") or DEFAULT_GROUP_BY),
        maximum_window_seconds=float(maximum) if maximum else None,
        overwrite_same_instance=ae.overwrite_same_instance,
        interrupted=InterruptedPolicy(ae.interrupted) if ae.interrupted else None,
        interrupted_hold_seconds=scp.interrupted_hold_seconds,
        quarantine_retention_seconds=storage.quarantine_retention_hours * 3600,
    )


def _group_by(text: str) -> str:
    """``GGGG,EEEE`` in capitals, however it was written, or ``none``."""
    if text.lower() == "none":
        return "none"
    digits = "".join(character for character in text if character.isalnum()).upper()
    return f"{digits[:4]},{digits[4:]}"


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


def _source(connection: Connection, ae_title: str, host_ip: str | None) -> Source:
    hosts = sorted(connection.scalars(select(SourceRow.host_ip).where(SourceRow.ae_title == ae_title)))
    if host_ip is not None:
        hosts = [host for host in hosts if host.casefold() == host_ip.casefold()]
    if not hosts:
        raise NotFound("Source", ae_title if host_ip is None else f"{ae_title} at {host_ip}")
    if len(hosts) > 1:
        raise ConfigurationInvalid([f"Source {ae_title} has several hosts, say which: {', '.join(hosts)}."])
    return Source(ae_title=ae_title, host_ip=hosts[0])


def _destination(connection: Connection, name: str) -> Destination:
    statement = select(DestinationRow.__table__).where(DestinationRow.name_key == name.casefold())
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise NotFound("Destination", name)
    return _destination_of(row)


def _clara_of(row: RowMapping) -> ClaraAeTitle:
    values = dict(row)
    del values["revision"]
    return ClaraAeTitle.model_validate(values)


def _destination_of(row: RowMapping) -> Destination:
    values = dict(row)
    del values["name_key"]
    return Destination.model_validate(values)
