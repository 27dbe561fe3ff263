"""Tokens of a real little provider: which count, and what happens while it is away or changes its key."""

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import Engine
from support.api import dependencies, serving
from support.issuer import Issuer, issuing

from clara_dicom_adapter.api.callers import IdentityProviderUnavailable, NotAuthenticated
from clara_dicom_adapter.api.oidc import OidcTokens
from clara_dicom_adapter.configuration.settings import (
    ApiSettings,
    AuthenticationMode,
    AuthenticationSettings,
    DataFolder,
    OidcSettings,
    Settings,
)

CONFIGURE: dict[str, Any] = {"roles": ["other", "clara-dicom-configure"]}
SOURCE = {"aeTitle": "CT1", "hostIp": "10.1.2.3"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture
async def api(tmp_path: Path, engine: Engine, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    authentication = AuthenticationSettings(
        mode=AuthenticationMode.REQUIRED, oidc=OidcSettings(issuer=issuer.url, audience="clara-dicom")
    )
    settings = Settings(api=ApiSettings(authentication=authentication))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as client:
        yield client


async def post(api: httpx.AsyncClient, token: str) -> tuple[int, str]:
    answer = await api.post("/api/config/sourceaetitle", json=SOURCE, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, str(answer.json().get("detail", ""))


async def test_a_token_of_the_provider_lets_in_with_the_role_of_its_claim(
    api: httpx.AsyncClient, issuer: Issuer
) -> None:
    assert (await post(api, issuer.token(**CONFIGURE)))[0] == 201
    status, told = await post(api, issuer.token(roles="clara-dicom-read email"))
    assert (status, told) == (403, "This needs the role configure; alice has read.")
    status, told = await post(api, issuer.token(roles=[]))
    assert (status, told) == (401, "The token's claim 'roles' gives no role here.")


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"exp": int(time.time()) - 3600}, "it has expired"),
        ({"exp": None}, "a claim is missing"),
        ({"nbf": int(time.time()) + 3600}, "it is not valid yet"),
        ({"aud": "somebody-else"}, "it is for another audience"),
        ({"aud": None}, "a claim is missing"),
        ({"iss": "https://elsewhere.example"}, "it is of another issuer"),
        ({"headers": {"kid": "other"}}, "it is signed with a key that its issuer does not have"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "its signature is wrong"),
        ({"key": "0" * 64, "alg": "HS256"}, "it cannot be read"),
    ],
)
async def test_a_token_that_does_not_count_is_refused_in_words(
    api: httpx.AsyncClient, issuer: Issuer, claims: dict[str, Any], told: str
) -> None:
    assert await post(api, issuer.token(**CONFIGURE, **claims)) == (401, f"The token is not valid here: {told}.")


def test_a_token_without_signature_does_not_count(issuer: Issuer) -> None:
    _, payload, _ = issuer.token(**CONFIGURE).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": issuer.key_id}).encode()).rstrip(b"=").decode()
    with pytest.raises(NotAuthenticated):
        tokens(issuer).caller(f"{header}.{payload}.")


def settings_of(issuer: Issuer, **more: Any) -> OidcSettings:
    return OidcSettings(issuer=issuer.url, audience="clara-dicom", **more)


def tokens(issuer: Issuer, **more: Any) -> OidcTokens:
    return OidcTokens(settings_of(issuer, **more))


def test_roles_may_lie_in_objects_and_have_other_names(issuer: Issuer) -> None:
    found = tokens(issuer, role_claim="realm_access.roles", operate_roles=("radiology-it",))
    assert found.caller(issuer.token(realm_access={"roles": ["radiology-it"]})).role == "operate"
    with pytest.raises(NotAuthenticated):
        found.caller(issuer.token(realm_access="radiology-it"))


def test_a_key_that_the_provider_has_changed_is_asked_for_and_a_stranger_cannot_make_us_ask_again_and_again() -> None:
    with issuing() as issuer:
        found, eager = tokens(issuer), OidcTokens(settings_of(issuer), cooldown_seconds=0)
        assert found.caller(issuer.token(**CONFIGURE)).name == "alice"
        assert eager.caller(issuer.token(**CONFIGURE)).name == "alice"
        asked = issuer.served.count("/keys")
        for _ in range(5):
            with pytest.raises(NotAuthenticated):
                found.caller(issuer.token(**CONFIGURE, headers={"kid": "made-up"}))
        assert issuer.served.count("/keys") == asked
        issuer.rotate("second")
        assert eager.caller(issuer.token(**CONFIGURE)).role == "configure"


def test_a_provider_that_is_away_is_told_and_is_no_refusal() -> None:
    with issuing() as issuer:
        token = issuer.token(**CONFIGURE)
    with pytest.raises(IdentityProviderUnavailable):
        tokens(issuer).caller(token)


def test_a_discovery_document_of_somebody_else_is_not_believed(issuer: Issuer) -> None:
    other = OidcTokens(OidcSettings(issuer=issuer.url.replace("127.0.0.1", "localhost"), audience="clara-dicom"))
    with pytest.raises(IdentityProviderUnavailable, match="another issuer"):
        other.caller(issuer.token(**CONFIGURE))
