"""Commands that work on an adapter elsewhere, over real HTTP, and with a key."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.api import dependencies, serving
from support.commands import Clara
from support.dicom_peers import free_port

from clara_dicom_adapter.configuration.api_keys import ApiKeys
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.settings import (
    ApiSettings,
    AuthenticationMode,
    AuthenticationSettings,
    DataFolder,
    Dialect,
    Settings,
)
from clara_dicom_adapter.records.database import open_engine


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Engine]]:
    """Address and database of an adapter that asks for keys, and speaks 0.6 where nobody says otherwise."""
    data = DataFolder(tmp_path_factory.mktemp("there"))
    engine = open_engine("", data)
    authentication = AuthenticationSettings(mode=AuthenticationMode.REQUIRED)
    settings = Settings(api=ApiSettings(dialect=Dialect.V0_6, authentication=authentication))
    loop, listening, done = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[str] = []

    async def serve() -> None:
        async with serving(dependencies(engine, data, settings)) as client:
            found.append(str(client.base_url))
            listening.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert listening.wait(30)
        yield found[0], engine
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
        engine.dispose()


@pytest.fixture
def key(there: tuple[str, Engine], request: pytest.FixtureRequest) -> str:
    return ApiKeys(there[1]).create(f"{abs(hash(request.node.nodeid))}", Role.CONFIGURE)[1]


def test_everything_can_be_done_elsewhere_and_nothing_is_done_here(
    clara: Clara, there: tuple[str, Engine], key: str, tmp_path: Path
) -> None:
    at = ("--url", there[0], "--key", key)
    assert clara(*at, "create", "aetitle", "-a", "COVIDAET", "pipeline-covid=abc").out == "AE title COVIDAET added\n"
    assert clara(*at, "create", "src", "-a", "MYPACS", "-i", "10.20.30.1").status == 0
    assert clara(*at, "create", "dest", "-n", "A/B", "-a", "P", "-i", "10.20.30.2", "-p", "1104").status == 0
    assert "COVIDAET\tCOVIDAET\tpipeline-covid=abc\t\tall\n" in clara(*at, "list", "aetitle").out
    assert clara(*at, "update", "aetitle", "-a", "COVIDAET", "timeout=3").status == 0
    found = json.loads(clara(*at, "get", "aetitle", "-n", "COVIDAET", "--json").out)
    assert found["processorSettings"] == {"pipeline-covid": "abc", "timeout": "3"}
    assert clara(*at, "update", "dest", "-n", "a/b", "-p", "1105").status == 0
    assert json.loads(clara(*at, "list", "dest", "--json").out)[0]["port"] == 1105
    assert clara(*at, "delete", "aet", "-n", "COVIDAET").status == 0
    assert clara(*at, "delete", "src", "-a", "MYPACS").status == 0
    assert clara(*at, "delete", "dest", "-n", "A/B").status == 0
    assert not (tmp_path / "data").exists()


def test_log_levels_are_changed_elsewhere(clara: Clara, there: tuple[str, Engine], key: str) -> None:
    at = ("--url", there[0], "--key", key, "config", "levels")
    changed = clara(*at, "Nvidia=debug", "Default=Warning")
    assert (changed.status, changed.err) == (0, "clara: no part runs there; the next start forgets this\n")
    assert json.loads(clara(*at, "nvidia=", "--json").out) == {"Default": "Warning"}
    wrong = clara(*at, "Default=Loud")
    assert (wrong.status, wrong.err.partition(":")[2].strip()) == (
        1,
        'Default: "Loud" is not allowed: one of Trace, Debug, Information, Warning, Error, Critical, None',
    )
    assert clara(*at, "Default=").out.splitlines() == ["category\tlevel"]


def test_what_is_refused_there_is_told_here(clara: Clara, there: tuple[str, Engine], key: str) -> None:
    at = ("--url", there[0], "--key", key)
    missing = clara(*at, "delete", "dest", "-n", "NONE")
    assert (missing.status, missing.err) == (1, "clara: Destination 'NONE' does not exist\n")
    clara(*at, "create", "src", "-a", "TWICE", "-i", "h")
    again = clara(*at, "create", "src", "-a", "TWICE", "-i", "h")
    assert (again.status, again.err) == (1, "clara: Source with AE Title TWICE already exists.\n")


def test_a_key_is_needed_and_may_come_from_a_variable_or_a_private_file(
    clara: Clara, there: tuple[str, Engine], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARA_DICOM_URL", there[0])
    without = clara("list", "src")
    assert without.status == 1
    assert "Give one with --key, CLARA_DICOM_KEY or the file" in without.err
    file = tmp_path / "data" / "api.key"
    file.parent.mkdir()
    file.write_text(f"{key}\n")
    file.chmod(0o640)
    assert f"`chmod 600 {file}`" in clara("list", "src").err
    file.chmod(0o600)
    assert clara("list", "src").status == 0
    file.unlink()
    monkeypatch.setenv("CLARA_DICOM_KEY", key)
    assert clara("list", "src").status == 0


def test_a_reader_may_not_change_anything(clara: Clara, there: tuple[str, Engine]) -> None:
    reader = ApiKeys(there[1]).create("reader", Role.READ)[1]
    done = clara("--url", there[0], "--key", reader, "create", "src", "-a", "X", "-i", "h")
    assert done.status == 1
    assert "This needs the role configure; reader has read. Another key is needed" in done.err


def test_where_nobody_answers_is_told_with_what_to_look_at(clara: Clara) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = clara("--url", url, "list", "aetitle")
    assert done.status == 1
    assert f"no adapter answers at {url}: " in done.err
    assert "`clara dicom start` starts one" in done.err
    assert clara("--url", "nonsense", "list", "aetitle").status == 1


@pytest.mark.parametrize(
    "command",
    [
        ("list", "jobs"),
        ("status",),
        ("config", "show"),
        ("key", "list"),
        ("attention",),
        ("delete", "dicomweb", "-n", "X"),
    ],
)
def test_what_can_only_be_done_here_says_so(clara: Clara, command: tuple[str, ...]) -> None:
    done = clara("--url", "http://127.0.0.1:1", *command)
    assert done.status == 2
    assert "--url is for create, list, get, update and delete" in " ".join(done.err.split())
