"""Insert-or-update in the two databases we speak to, and the events that go with a change of state."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, insert, inspect
from sqlalchemy.dialects import postgresql, sqlite

from clara_dicom_adapter.configuration.tables import Base
from clara_dicom_adapter.records.tables import EventRow
from clara_dicom_adapter.records.texts import bounded

Clock = Callable[[], datetime]


def now() -> datetime:
    return datetime.now(UTC)


def upsert(
    connection: Connection, table: type[Base], rows: Sequence[Mapping[str, Any]], update: Sequence[str] = ()
) -> None:
    """Insert rows; of those that are there already, ``update``'s columns are set."""
    if not rows:
        return
    # one row per statement, many times: a statement of many rows is compiled anew for each number of them, which took
    # ten times as long as the database does
    connection.execute(_statement(connection.dialect.name, table, tuple(update)), list(rows))


@cache
def _statement(dialect: str, table: type[Base], update: tuple[str, ...]) -> Insert:
    """Kept, because to make one takes longer than to execute it."""
    keys = [column.name for column in inspect(table).primary_key]
    if dialect == "sqlite":
        lite = sqlite.insert(table)
        if not update:
            return lite.on_conflict_do_nothing(keys)
        return lite.on_conflict_do_update(keys, set_={name: getattr(lite.excluded, name) for name in update})
    post = postgresql.insert(table)
    if not update:
        return post.on_conflict_do_nothing(index_elements=keys)
    changes = {name: getattr(post.excluded, name) for name in update}
    return post.on_conflict_do_update(index_elements=keys, set_=changes)


def event(connection: Connection, at: datetime, *, kind: str, subject: str, what: str, text: str = "") -> None:
    """Add a line to a subject's timeline; the caller has made sure that this is a change."""
    connection.execute(insert(EventRow).values(at=at, kind=kind, subject=subject, what=what, text=bounded(text)))
