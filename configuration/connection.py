"""The connection string of the database, in the forms of .NET and of SQLAlchemy."""

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import ConfigurationInvalid

ALLOWED: Final = (
    "'Data Source=FILE', 'Host=HOST;Database=NAME;Username=USER;Password=PASSWORD', or a sqlite or postgresql URL"
)
_FILE: Final = frozenset({"data source", "datasource", "filename"})
_POSTGRESQL: Final = {
    "host": "host",
    "server": "host",
    "port": "port",
    "database": "database",
    "username": "username",
    "user id": "username",
    "userid": "username",
    "user": "username",
    "password": "password",
}
_SSL_MODE: Final = frozenset({"ssl mode", "sslmode"})


def database_url(database: str, data: DataFolder) -> URL:
    """The URL of a connection string in any of its forms; files are relative to the data folder.

    Args:
        database: Empty: a file in the data folder.

    Raises:
        ConfigurationInvalid: The text is no database that we know.
    """
    text = database.strip()
    if not text:
        return URL.create("sqlite", database=str(data.database))
    if "://" not in text:
        return _of_pairs(text, data)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise _invalid() from error
    match url.drivername.partition("+")[0]:
        case "sqlite" if url.database and url.database != ":memory:":
            return url.set(database=str(data.root / url.database))
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+psycopg")
    raise _invalid()


def _of_pairs(text: str, data: DataFolder) -> URL:
    """``NAME=VALUE;NAME=VALUE``, the form of .NET's drivers."""
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    values = {name.strip().lower(): value.strip().strip("\"'") for name, _, value in pairs}
    for name in _FILE & values.keys():
        if values[name] and values[name] != ":memory:":
            return URL.create("sqlite", database=str(data.root / values[name]))
    known = {_POSTGRESQL[name]: value for name, value in values.items() if name in _POSTGRESQL}
    if not known.get("host") or not known.get("database") or values.keys() - _POSTGRESQL.keys() - _SSL_MODE:
        raise _invalid()
    port = known.get("port", "5432")
    if not port.isdecimal():
        raise _invalid()
    mode = next((values[name] for name in _SSL_MODE & values.keys()), "")
    return URL.create(
        "postgresql+psycopg",
        known.get("username"),
        known.get("password"),
        known["host"],
        int(port),
        known["database"],
        {"sslmode": _ssl_mode(mode)} if mode else {},
    )


def _ssl_mode(mode: str) -> str:
    """Of Npgsql's ``VerifyFull`` libpq's ``verify-full``."""
    return mode.lower().replace("verify", "verify-").replace("--", "-")


def _invalid() -> ConfigurationInvalid:
    return ConfigurationInvalid([f"ConnectionStrings>DicomAdapterDatabase must be {ALLOWED}."])
