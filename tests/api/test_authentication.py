"""Who is let in: keys, roles, and what is closed when nobody could be."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs
from support.api import dependencies, serving

from clara_dicom_adapter.api.authentication import OPEN_PATHS, policy
from clara_dicom_adapter.configuration.api_keys import ApiKeys
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.settings import (
    ApiSettings,
    AuthenticationMode,
    AuthenticationSettings,
    DataFolder,
    OidcSettings,
    Settings,
)
from clara_dicom_adapter.errors import AlreadyExists, ConfigurationInvalid, NotFound

REQUIRED = AuthenticationSettings(mode=AuthenticationMode.REQUIRED)
SOURCE = {"aeTitle": "CT1", "hostIp": "10.1.2.3"}
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def keys(engine: Engine) -> ApiKeys:
    return ApiKeys(engine)


@pytest.fixture
async def closed(tmp_path: Path, engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an interface that asks everybody who they are."""
    settings = Settings(api=ApiSettings(authentication=REQUIRED))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def made(keys: ApiKeys, role: Role, lasts: timedelta | None = None) -> str:
    return keys.create(f"{role}-key", role, lasts)[1]


async def test_everything_but_probes_and_the_description_is_closed_without_a_key(closed: httpx.AsyncClient) -> None:
    document = (await closed.get("/openapi.json")).json()
    operations = [(path, method) for path, methods in document["paths"].items() for method in methods]
    assert len(operations) == 38
    for path, method in operations:
        filled = path.format(key="x", subject="exports", verb="retry", identifier="x", task_id="x")
        answer = await closed.request(method, filled, json={})
        assert (answer.status_code == 401) is (path not in OPEN_PATHS), (method, path)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert document["paths"][path][method]["security"] == [{"bearer": []}]


async def test_a_role_may_do_what_those_before_it_may(closed: httpx.AsyncClient, keys: ApiKeys) -> None:
    requests: list[tuple[str, str, Role]] = [
        ("GET", "/api/config/sourceaetitle", Role.READ),
        ("GET", "/api/exports", Role.READ),
        ("GET", "/api/trace/1.2.3", Role.READ),
        ("GET", "/api/attention", Role.READ),
        ("GET", "/health/status", Role.READ),
        ("GET", "/metrics", Role.READ),
        ("POST", "/api/config/claraaetitle/NONE/explain", Role.READ),
        ("POST", "/api/config/destinationaetitle/NONE/echo", Role.OPERATE),
        ("POST", "/api/attention/retry", Role.OPERATE),
        ("POST", "/api/exports/1/discard", Role.OPERATE),
        ("POST", "/api/config/sourceaetitle", Role.CONFIGURE),
        ("PUT", "/api/config/claraaetitle/NONE", Role.CONFIGURE),
        ("DELETE", "/api/config/destinationaetitle/NONE", Role.CONFIGURE),
    ]
    for role in Role:
        key = made(keys, role)
        for method, path, needed in requests:
            answer = await closed.request(method, path, json=SOURCE, headers=bearer(key))
            assert (answer.status_code == 403) is not role.includes(needed), (role, method, path)
            if answer.status_code == 403:
                told = f"This needs the role {needed}; {role}-key has {role}."
                assert told in (answer.json().get("detail"), answer.json().get("message"))


async def test_a_key_counts_until_it_is_revoked_and_is_kept_as_a_hash(
    closed: httpx.AsyncClient, keys: ApiKeys, engine: Engine
) -> None:
    key = made(keys, Role.READ)
    assert (await closed.get("/api/exports", headers=bearer(key))).status_code == 200
    with engine.connect() as connection:
        kept = str(connection.execute(text("SELECT * FROM api_key")).mappings().all())
    secret = key.split("_", 2)[2]
    assert secret not in kept
    changed = key[:-1] + ("A" if key[-1] != "A" else "B")
    for wrong in (changed, "cda_000000000000_" + secret, "a.b.c", "x", key + "\N{SNOWMAN}"):
        headers = {b"Authorization": f"Bearer {wrong}".encode()}
        assert (await closed.get("/api/exports", headers=headers)).status_code == 401, wrong
    assert (await closed.get("/api/exports", headers={"Authorization": f"Basic {key}"})).status_code == 401
    assert keys.revoke("read-key").role is Role.READ
    assert (await closed.get("/api/exports", headers=bearer(key))).status_code == 401


async def test_who_has_changed_what_is_logged(closed: httpx.AsyncClient, keys: ApiKeys) -> None:
    key = bearer(made(keys, Role.CONFIGURE))
    with capture_logs() as lines:
        await closed.post("/api/config/sourceaetitle", json=SOURCE, headers=key)
        await closed.post("/api/config/sourceaetitle", json=SOURCE, headers=key)
        await closed.put("/api/config/sourceaetitle/CT1", json=SOURCE, headers=key)
        await closed.delete("/api/config/sourceaetitle/CT1", headers=key)
    changes = [line for line in lines if line["event"] == "configuration_changed"]
    assert [(line["method"], line["kind"], line["key"], line["name"]) for line in changes] == [
        (method, "Source", "ct1-10.1.2.3", "configure-key") for method in ("POST", "PUT", "DELETE")
    ]


async def test_a_key_can_expire(closed: httpx.AsyncClient, keys: ApiKeys) -> None:
    key = made(keys, Role.READ, timedelta(seconds=-1))
    assert (await closed.get("/api/exports", headers=bearer(key))).status_code == 401
    assert [each.expired for each in keys.all()] == [True]


def test_names_of_keys_are_unique_and_plain(keys: ApiKeys) -> None:
    keys.create("alice", Role.READ)
    with pytest.raises(AlreadyExists):
        keys.create("alice", Role.CONFIGURE)
    with pytest.raises(ConfigurationInvalid):
        keys.create("al ice", Role.READ)
    with pytest.raises(NotFound):
        keys.revoke("bob")


async def test_keys_of_a_file_count_too(tmp_path: Path, engine: Engine) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# from the chart\nconfigure {SECRET}\n\nread {SECRET[::-1]}\n")
    authentication = AuthenticationSettings(mode=AuthenticationMode.REQUIRED, key_file=file)
    settings = Settings(api=ApiSettings(authentication=authentication))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as client:
        statuses = [
            (await client.post("/api/config/sourceaetitle", json=SOURCE, headers=bearer(key))).status_code
            for key in (SECRET, SECRET[::-1], SECRET.upper())
        ]
    assert statuses == [201, 403, 401]


def test_a_key_file_that_cannot_be_used_is_told_without_repeating_it(tmp_path: Path, keys: ApiKeys) -> None:
    file = tmp_path / "keys"
    file.write_text("configure short-secret\nadmin 0123456789abcdef0123456789abcdef")
    settings = ApiSettings(host="0.0.0.0", authentication=AuthenticationSettings(key_file=file))
    with pytest.raises(ConfigurationInvalid) as caught:
        policy(settings, keys)
    assert [line.partition(":")[0] for line in caught.value.problems] == [
        f"keyFile {file}, line 1",
        f"keyFile {file}, line 2",
    ]
    assert "secret" not in str(caught.value)
    missing = settings.model_copy(update={"authentication": AuthenticationSettings(key_file=tmp_path / "none")})
    with pytest.raises(ConfigurationInvalid, match="No such file"):
        policy(missing, keys)


@pytest.mark.parametrize(
    ("host", "authentication", "with_key", "expected"),
    [
        ("127.0.0.1", {}, False, ("127.0.0.1", False, "")),
        ("localhost", {}, True, ("localhost", False, "")),
        ("::1", {"mode": "required"}, True, ("::1", True, "")),
        ("127.0.0.1", {"mode": "required"}, False, ("127.0.0.1", True, "nobody can be let in; make a key")),
        ("0.0.0.0", {}, True, ("0.0.0.0", True, "")),
        ("0.0.0.0", {}, False, ("127.0.0.1", False, "listens on 127.0.0.1 instead of 0.0.0.0")),
        ("0.0.0.0", {"oidc": OidcSettings(issuer="https://i", audience="a")}, False, ("0.0.0.0", True, "")),
        ("0.0.0.0", {"mode": "disabled"}, True, ("0.0.0.0", False, "may change everything")),
        ("127.0.0.1", {"mode": "disabled"}, False, ("127.0.0.1", False, "")),
    ],
)
def test_beyond_loopback_somebody_must_be_known_or_authentication_disabled(
    keys: ApiKeys, host: str, authentication: dict[str, Any], *, with_key: bool, expected: tuple[str, bool, str]
) -> None:
    if with_key:
        made(keys, Role.CONFIGURE)
    found = policy(ApiSettings(host=host, authentication=AuthenticationSettings.model_validate(authentication)), keys)
    listens, asks, warning = expected
    assert (found.host, found.authenticator is not None) == (listens, asks)
    assert warning in "".join(found.warnings)
    assert bool(warning) is bool(found.warnings)


async def test_a_warning_about_protection_is_seen_in_health(tmp_path: Path, engine: Engine) -> None:
    settings = Settings(api=ApiSettings(host="0.0.0.0"))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as client:
        answer = await client.get("/health/ready", params={"role": "api"})
    assert answer.status_code == 200
    assert answer.json()["roles"]["api"]["warnings"] == [
        (
            "api: listens on 127.0.0.1 instead of 0.0.0.0, because nobody could be let in; make a key with "
            "`clara dicom key create NAME --role configure` and restart"
        )
    ]
