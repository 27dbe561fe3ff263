"""Insert-or-update in the two databases we speak to, and the events that go with a change of state."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, inspect
from sqlalchemy.dialects import postgresql, sqlite

from clara_dicom_adapter.configuration.tables import Base
from clara_dicom_adapter.records.tables import EventRow

_LONGEST_TEXT: Final = 2000

Clock = Callable[[], datetime]


def now() -> datetime:
    return datetime.now(UTC)


def upsert(
    connection: Connection, table: type[Base], rows: Sequence[Mapping[str, Any]], update: Sequence[str] = ()
) -> None:
    """Insert rows; of those that are there already, ``update``'s columns are set."""
    if not rows:
        return
    keys = [column.name for column in inspect(table).primary_key]
    # one row per statement, many times: a statement of many rows is compiled anew for each number of them, which took
    # ten times as long as the database does
    if connection.dialect.name == "sqlite":
        lite = sqlite.insert(table)
        changes = {name: getattr(lite.excluded, name) for name in update}
        connection.execute(
            lite.on_conflict_do_update(keys, set_=changes) if update else lite.on_conflict_do_nothing(keys),
            list(rows),
        )
    else:
        post = postgresql.insert(table)
        changes = {name: getattr(post.excluded, name) for name in update}
        connection.execute(
            post.on_conflict_do_update(index_elements=keys, set_=changes)
            if update
            else post.on_conflict_do_nothing(index_elements=keys),
            list(rows),
        )


def event(connection: Connection, at: datetime, *, kind: str, subject: str, what: str, text: str = "") -> None:
    """Add a line to a subject's timeline; the caller has made sure that this is a change."""
    connection.execute(insert(EventRow).values(at=at, kind=kind, subject=subject, what=what, text=bounded(text)))


def bounded(text: str) -> str:
    """A message as it is stored: a peer's can be as long as it likes, and hold the NUL that PostgreSQL cannot."""
    return text[:_LONGEST_TEXT].replace("\x00", "")
