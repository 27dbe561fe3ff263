"""An adapter on another machine, spoken to over REST: its AE titles, sources, destinations and log levels."""

import ssl
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic
from urllib.parse import quote

import httpx

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source
from clara_dicom_adapter.configuration.entity_store import EntityStores, EntityT
from clara_dicom_adapter.errors import AdapterError, ConfigurationInvalid, ServiceUnreachable

KEY_FILE: Final = "api.key"
"""In the data folder: the key that commands send; readable for its owner only."""
_MEDIA_TYPE: Final = "application/vnd.clara.dicom.v0.8+json"
_SECONDS: Final = 15.0
_HINTS: Final = {
    401: "Give one with --key, CLARA_DICOM_KEY or the file {file}; `clara dicom key create NAME` there makes one",
    403: "Another key is needed; `clara dicom key create NAME --role configure` there makes one",
}


@dataclass(frozen=True)
class Remote:
    """Where an adapter answers, and who asks.

    Attributes:
        ca_file: Certificates of authorities to trust, PEM; None: the system's.
    """

    url: str
    key: str | None = None
    ca_file: Path | None = None

    def stores(self, data: Path) -> EntityStores:
        """Its stores.

        Args:
            data: Folder that may hold a key.
        """
        client = _client(self, data)
        return EntityStores(
            clara_ae_titles=_RestStore(client, "claraaetitle", ClaraAeTitle),
            sources=_RestStore(client, "sourceaetitle", Source),
            destinations=_RestStore(client, "destinationaetitle", Destination),
        )

    def levels(self, data: Path) -> "_RestLevels":
        """Its log levels; the rest as :meth:`stores`."""
        return _RestLevels(_client(self, data))


def read_key(file: Path) -> str | None:
    """The key of a file; None when there is no such file.

    Raises:
        AdapterError: Others may read the file.
    """
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise AdapterError(f"others may read {file}, which holds a key: `chmod 600 {file}`")
        return file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def _client(remote: Remote, data: Path) -> "_Client":
    file = data / KEY_FILE
    key = remote.key or read_key(file)
    verify: ssl.SSLContext | bool = True
    if remote.ca_file is not None:
        try:
            verify = ssl.create_default_context(cafile=str(remote.ca_file))
        except OSError as error:
            raise AdapterError(f"{remote.ca_file} holds no certificates: {error.strerror or error}") from error
    headers = {"Accept": _MEDIA_TYPE, **({"Authorization": f"Bearer {key}"} if key else {})}
    http = httpx.Client(base_url=remote.url, headers=headers, verify=verify, timeout=_SECONDS)
    return _Client(http, remote.url, file)


class _Client:
    """Sends requests, and makes errors of ours of what goes wrong."""

    def __init__(self, http: httpx.Client, url: str, file: Path) -> None:
        self._http = http
        self._url = url
        self._file = file

    def send(self, method: str, path: str, host: str | None = None, body: object | None = None) -> Any:
        """The JSON of the answer."""
        try:
            answer = self._http.request(
                method,
                path,
                params={"hostIp": host} if host else None,
                json=body,
                headers={"Content-Type": _MEDIA_TYPE} if body is not None else None,
            )
            content = answer.json()
        except httpx.HTTPError as error:
            raise ServiceUnreachable(self._url, str(error) or type(error).__name__) from error
        except (ValueError, httpx.InvalidURL) as error:
            raise ServiceUnreachable(self._url, "what answers there is no DICOM adapter") from error
        if answer.is_success:
            return content
        detail = str(content.get("detail", "")) if isinstance(content, dict) else ""
        if answer.status_code == httpx.codes.BAD_REQUEST:
            raise ConfigurationInvalid(detail.splitlines())
        hint = _HINTS.get(answer.status_code, "").format(file=self._file)
        raise AdapterError(". ".join(part.rstrip(".") for part in (detail or answer.reason_phrase, hint) if part))


class _RestStore(Generic[EntityT]):
    """An :class:`EntityStore` behind REST."""

    def __init__(self, client: _Client, route: str, kind: type[EntityT]) -> None:
        self._client = client
        self._route = f"/api/config/{route}"
        self._kind = kind

    def all(self) -> Sequence[EntityT]:
        return [self._kind.model_validate(each) for each in self._client.send("GET", self._route)]

    def get(self, key: str, host: str | None = None) -> EntityT:
        return self._kind.model_validate(self._client.send("GET", self._one(key), host))

    def add(self, entity: EntityT) -> EntityT:
        return self._kind.model_validate(self._client.send("POST", self._route, body=_plain(entity)))

    def replace(self, key: str, entity: EntityT, host: str | None = None) -> EntityT:
        return self._kind.model_validate(self._client.send("PUT", self._one(key), host, _plain(entity)))

    def remove(self, key: str, host: str | None = None) -> EntityT:
        return self._kind.model_validate(self._client.send("DELETE", self._one(key), host))

    def _one(self, key: str) -> str:
        return f"{self._route}/{quote(key, safe='')}"


class _RestLevels:
    """Log levels behind REST."""

    _PATH: Final = "/api/logging/levels"

    def __init__(self, client: _Client) -> None:
        self._client = client

    def changed(self) -> dict[str, str]:
        return dict(self._client.send("GET", self._PATH)["changed"])

    def change(self, levels: Mapping[str, str | None]) -> list[str]:
        named = {category.lower() for category in levels}
        kept = {category: level for category, level in self.changed().items() if category.lower() not in named}
        wanted = {category: level for category, level in levels.items() if level is not None}
        return list(self._client.send("PUT", self._PATH, body=kept | wanted)["told"])


def _plain(entity: Entity) -> dict[str, Any]:
    return entity.model_dump(mode="json", by_alias=True)
