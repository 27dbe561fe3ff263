"""API keys: made by the command line, kept as hashes, revoked by name.

A key is ``cda_<id>_<secret>``. The id finds its row, the secret is 256 random bits, of which a plain SHA-256 is kept:
there is nothing to guess, so a slow hash would only slow requests down.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, RowMapping, delete, insert, select

from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.tables import ApiKeyRow, reading
from clara_dicom_adapter.errors import AlreadyExists, ConfigurationInvalid, NotFound

_FORM: Final = re.compile(r"cda_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
SHORTEST_FILE_KEY: Final = 32


@dataclass(frozen=True)
class ApiKey:
    """A key, without its secret."""

    name: str
    role: Role
    key_id: str
    created_at: datetime
    expires_at: datetime | None = None

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


class ApiKeys:
    """The keys in the SQL store; thread-safe, every call one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, role: Role, lasts: timedelta | None = None) -> tuple[ApiKey, str]:
        """Make a key; its text is given this once.

        Raises:
            AlreadyExists: There is a key of that name.
            ConfigurationInvalid: The name is none.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationInvalid(
                [f"Invalid name '{name[:100]}' of a key: up to 63 letters, digits, '.', '_', '@' and '-' are expected."]
            )
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        now = datetime.now(UTC).replace(microsecond=0)
        key = ApiKey(name, role, key_id, now, now + lasts if lasts else None)
        with self._engine.begin() as connection:
            if connection.scalar(select(ApiKeyRow.key_id).where(ApiKeyRow.name == name)) is not None:
                raise AlreadyExists(f"API key {name} already exists.")
            connection.execute(
                insert(ApiKeyRow).values(
                    key_id=key_id,
                    name=name,
                    role=role.value,
                    secret_hash=_hash(secret),
                    created_at=key.created_at,
                    expires_at=key.expires_at,
                )
            )
        return key, f"cda_{key_id}_{secret}"

    def all(self) -> Sequence[ApiKey]:
        """Every key, expired ones too, by name."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(ApiKeyRow.__table__).order_by(ApiKeyRow.name)).mappings()
            return [_key(row) for row in rows]

    def revoke(self, name: str) -> ApiKey:
        """Forget a key; it is refused from now on. Raises NotFound."""
        with self._engine.begin() as connection:
            statement = select(ApiKeyRow.__table__).where(ApiKeyRow.name == name)
            row = connection.execute(statement).mappings().first()
            if row is None:
                raise NotFound("API key", name)
            connection.execute(delete(ApiKeyRow).where(ApiKeyRow.name == name))
        return _key(row)

    def find(self, text: str) -> ApiKey | None:
        """The key of a text; None when there is none, or it has expired."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        with reading(self._engine) as connection:
            statement = select(ApiKeyRow.__table__).where(ApiKeyRow.key_id == match[1])
            row = connection.execute(statement).mappings().first()
        if row is None or not hmac.compare_digest(row["secret_hash"], _hash(match[2])):
            return None
        key = _key(row)
        return None if key.expired else key


class FileKeys:
    """Keys of a file, such as a mounted secret; lines of a role and a key, read once.

    Raises:
        ConfigurationInvalid: The file cannot be read, or a line is not of that form.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigurationInvalid([f"keyFile {path} cannot be read: {reason}"]) from error
        self._roles: dict[str, Role] = {}
        wrong: list[str] = []
        for number, line in enumerate(lines, start=1):
            role, _, key = line.strip().partition(" ")
            if not role or role.startswith("#"):
                continue
            if role not in list(Role) or len(key.strip()) < SHORTEST_FILE_KEY:
                wrong.append(  # the line may hold a secret, so it is not repeated
                    f"keyFile {path}, line {number}: a role ({', '.join(Role)}) and a key of at least "
                    f"{SHORTEST_FILE_KEY} characters are expected"
                )
                continue
            self._roles[_hash(key.strip())] = Role(role)
        if wrong:
            raise ConfigurationInvalid(wrong)

    def find(self, text: str) -> Role | None:
        """The role of a key; found by its hash, so that the time taken tells nothing."""
        return self._roles.get(_hash(text))

    def __bool__(self) -> bool:
        return bool(self._roles)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _key(row: RowMapping) -> ApiKey:
    return ApiKey(row["name"], Role(row["role"]), row["key_id"], row["created_at"], row["expires_at"])
