"""Log levels over REST: what is told, what is refused, and who may."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine
from support.api import dependencies, serving

from clara_dicom_adapter.configuration.api_keys import ApiKeys
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.settings import (
    ApiSettings,
    AuthenticationMode,
    AuthenticationSettings,
    DataFolder,
    Settings,
)

LEVELS = "/api/logging/levels"
SCP = "Nvidia.Clara.DicomAdapter.Server.Services.Scp"


async def test_a_change_takes_the_place_of_all_before_until_it_is_taken_back(
    api: httpx.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "appsettings.json").write_text('{"Logging": {"LogLevel": {"Default": "Warning"}}}')
    assert (await api.get(LEVELS)).json() == {"levels": {"Default": "Warning"}, "changed": {}}
    await api.put(LEVELS, json={SCP: "debug", "my.module": "Trace"})
    changed = await api.put(LEVELS, json={SCP: "Debug"})
    both = {"levels": {"Default": "Warning", SCP: "Debug"}, "changed": {SCP: "Debug"}}
    assert (changed.status_code, changed.json()) == (200, {**both, "told": []})
    assert (await api.get(LEVELS)).json() == both
    await api.put(LEVELS, json={})
    assert (await api.get(LEVELS)).json() == {"levels": {"Default": "Warning"}, "changed": {}}


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ({"Default": "Loud", "Dicom": None}, ['Default: "Loud" is not allowed: ', "Dicom: null is not "]),
        (
            {"Nvidia.Clara.Nothing": "Debug", "a b": "Debug"},
            ["'Nvidia.Clara.Nothing' is no category: ", "'a b' is no "],
        ),
        (["Default"], ["An object of categories and levels is expected."]),
    ],
)
async def test_what_is_no_category_or_level_is_told_and_changes_nothing(
    api: httpx.AsyncClient, body: object, lines: list[str]
) -> None:
    answer = await api.put(LEVELS, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    told = answer.json()["detail"].splitlines()
    assert len(told) == len(lines)
    for begin in lines:
        assert any(line.startswith(begin) for line in told), told
    assert (await api.get(LEVELS)).json()["changed"] == {}


async def test_who_may_not_configure_may_look(engine: Engine, tmp_path: Path) -> None:
    authentication = AuthenticationSettings(mode=AuthenticationMode.REQUIRED)
    settings = Settings(api=ApiSettings(authentication=authentication))
    operator = ApiKeys(engine).create("operator", Role.OPERATE)[1]
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as client:
        assert (await client.get(LEVELS)).status_code == 401
        client.headers["Authorization"] = f"Bearer {operator}"
        assert (await client.get(LEVELS)).status_code == 200
        refused = await client.put(LEVELS, json={"Default": "Debug"})
        assert (refused.status_code, refused.json()["title"]) == (403, "Not allowed.")
