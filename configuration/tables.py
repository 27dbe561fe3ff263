"""The SQL tables of what an operator configures, and the metadata that all tables of the adapter share."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import JSON, Connection, DateTime, Dialect, Engine, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

READ_ONLY: Final = "clara_read_only"
"""Execution option of a connection that will only read: on SQLite it then takes no place in the writers' queue."""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that only reads, blocks no writer and is blocked by none."""
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
        yield connection


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time; SQLite has no time zones, so it is stored as UTC without one and comes back with it."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return value.replace(tzinfo=UTC) if value else None


class Base(DeclarativeBase):
    """Base of every table, in this room and in ``records``."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON, dict[str, str]: JSON}  # noqa: RUF012 - read by SQLAlchemy


class ClaraAeTitleRow(Base):
    __tablename__ = "claraaetitle"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    ae_title: Mapped[str] = mapped_column(String(16), unique=True)
    overwrite_same_instance: Mapped[bool]
    ignored_sop_classes: Mapped[list[str]]
    allowed_sources: Mapped[list[str]]
    processor: Mapped[str]
    processor_settings: Mapped[dict[str, str]]
    interrupted: Mapped[str | None] = mapped_column(String(16))
    revision: Mapped[int]
    """The configuration's revision in which it came."""


class SourceRow(Base):
    __tablename__ = "source"

    ae_title: Mapped[str] = mapped_column(String(16), primary_key=True)
    host_ip: Mapped[str] = mapped_column(String(253), primary_key=True)


class DestinationRow(Base):
    __tablename__ = "destination"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    name_key: Mapped[str] = mapped_column(String(128), unique=True)
    """The name without case: tasks name destinations in any case."""
    ae_title: Mapped[str] = mapped_column(String(16))
    host_ip: Mapped[str] = mapped_column(String(253))
    port: Mapped[int]
    maximum_associations: Mapped[int]
    tls: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """As ``configuration.entities.DestinationTls`` is written; none: plain TCP."""


class WebDestinationRow(Base):
    __tablename__ = "web_destination"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    name_key: Mapped[str] = mapped_column(String(128), unique=True)
    url: Mapped[str] = mapped_column(String(500))
    authentication: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    tls: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    maximum_requests: Mapped[int]


class ImportedRow(Base):
    """An entity that a settings file has brought once: it does not come back when an operator deletes it."""

    __tablename__ = "imported"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    key: Mapped[str] = mapped_column(String(300), primary_key=True)
    """What makes it unique among its kind."""
    imported_at: Mapped[datetime]


class ApiKeyRow(Base):
    __tablename__ = "api_key"

    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """Part of the key, not secret."""
    name: Mapped[str] = mapped_column(String(63), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]


class CounterRow(Base):
    """Numbers that only grow: the configuration's revision, the exports' report mark."""

    __tablename__ = "counter"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int]
