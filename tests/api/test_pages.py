"""The documentation pages work where there is no Internet."""

import re
from typing import cast

import httpx
import pytest

from clara_dicom_adapter.clara.embedded.results_api import application
from clara_dicom_adapter.clara.embedded.tasks import TaskStore

_LOADED = re.compile(r"""(?:src|href)=["']([^"']+)""")


async def assert_all_is_here(client: httpx.AsyncClient, page: str) -> None:
    answer = await client.get(page)
    assert answer.status_code == 200
    assert "://" not in answer.text
    loaded = _LOADED.findall(answer.text)
    assert any(name.endswith(".js") for name in loaded)
    for name in loaded:
        assert (await client.get(name)).status_code == 200, name


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_a_page_of_the_api_loads_nothing_from_elsewhere(api: httpx.AsyncClient, page: str) -> None:
    await assert_all_is_here(api, page)


async def test_a_page_of_the_embedded_results_service_loads_nothing_from_elsewhere() -> None:
    transport = httpx.ASGITransport(application(cast("TaskStore", None)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        await assert_all_is_here(client, "/docs")
