"""The entities of a settings file, brought into the store once.

What has been brought is remembered: what an operator deletes afterwards does not come back with the next start, and
what an operator changes stays changed. Several processes may import the same file at the same time.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import Connection, Engine, insert, select, update

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source
from clara_dicom_adapter.configuration.store import REVISION
from clara_dicom_adapter.configuration.tables import (
    ClaraAeTitleRow,
    CounterRow,
    DestinationRow,
    ImportedRow,
    SourceRow,
    reading,
)

log = structlog.get_logger("clara_dicom_adapter.configuration")

_KINDS: Final = {ClaraAeTitle: "aetitle", Source: "source", Destination: "destination"}


def import_once(engine: Engine, entities: Iterable[Entity]) -> list[Entity]:
    """Add those that have never been imported; one that exists already stays as it is.

    Returns:
        What was added.
    """
    wanted = {_key(entity): entity for entity in entities}
    if not wanted:
        return []
    with reading(engine) as connection:
        if wanted.keys() <= _imported(connection):
            return []
    added: list[Entity] = []
    with engine.begin() as connection:
        # first in the transaction, so that writers wait for each other here
        revision = connection.execute(
            update(CounterRow)
            .where(CounterRow.name == REVISION)
            .values(value=CounterRow.value + 1)
            .returning(CounterRow.value)
        ).scalar_one()
        known = _imported(connection)
        for (kind, key), entity in wanted.items():
            if (kind, key) in known:
                continue
            if _add(connection, entity, revision):
                added.append(entity)
            else:
                log.warning("import_left_out", kind=kind, name=key, reason="it is configured already, and stays so")
            connection.execute(insert(ImportedRow).values(kind=kind, key=key, imported_at=datetime.now(UTC)))
    for entity in added:
        log.info("imported", kind=_KINDS[type(entity)], name=_key(entity)[1])
    return added


def _imported(connection: Connection) -> set[tuple[str, str]]:
    return {(row.kind, row.key) for row in connection.execute(select(ImportedRow.kind, ImportedRow.key))}


def _key(entity: Entity) -> tuple[str, str]:
    match entity:
        case Source():
            return "source", f"{entity.ae_title} {entity.host_ip.casefold()}"
        case Destination():
            return "destination", entity.name.casefold()
        case ClaraAeTitle():
            return "aetitle", entity.ae_title
    raise TypeError(f"{type(entity).__name__} is no entity of a settings file")


def _add(connection: Connection, entity: Entity, revision: int) -> bool:
    """Add one; False when there is one like it."""
    match entity:
        case ClaraAeTitle():
            same = (ClaraAeTitleRow.ae_title == entity.ae_title) | (ClaraAeTitleRow.name == entity.name)
            if connection.scalar(select(ClaraAeTitleRow.name).where(same)) is not None:
                return False
            values = entity.model_dump(mode="json") | {"revision": revision}
            connection.execute(insert(ClaraAeTitleRow).values(values))
        case Source():
            hosts: Sequence[str] = connection.scalars(
                select(SourceRow.host_ip).where(SourceRow.ae_title == entity.ae_title)
            ).all()
            if entity.host_ip.casefold() in map(str.casefold, hosts):
                return False
            connection.execute(insert(SourceRow).values(entity.model_dump(mode="json")))
        case Destination():
            key = entity.name.casefold()
            if connection.scalar(select(DestinationRow.name).where(DestinationRow.name_key == key)) is not None:
                return False
            connection.execute(insert(DestinationRow).values(entity.model_dump(mode="json") | {"name_key": key}))
    return True
