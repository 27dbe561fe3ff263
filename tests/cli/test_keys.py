"""Keys to the REST interface on the command line."""

import json
from pathlib import Path

from support.commands import Clara

from clara_dicom_adapter.configuration.api_keys import ApiKeys
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(clara: Clara, tmp_path: Path) -> None:
    made = clara("key", "create", "alice", "--role", "configure", "--days", "30")
    text = made.out.strip()
    engine = open_engine("", DataFolder(tmp_path / "data"))
    found = ApiKeys(engine).find(text)
    assert found is not None
    assert (found.name, found.role) == ("alice", "configure")
    assert "it is not shown again" in made.err
    listed = clara("key", "list", "--json").out
    assert [(key["name"], key["role"]) for key in json.loads(listed)] == [("alice", "configure")]
    assert text not in listed
    assert clara("key", "revoke", "alice").out == "key alice revoked\n"
    assert ApiKeys(engine).find(text) is None
    assert clara("key", "revoke", "alice").status == 1
    engine.dispose()


def test_a_key_that_is_kept_is_for_its_owner_only(clara: Clara, tmp_path: Path) -> None:
    made = clara("key", "create", "me", "--save", "--json")
    file = tmp_path / "data" / "api.key"
    assert file.read_text().strip() == json.loads(made.out)["key"]
    assert file.stat().st_mode & 0o777 == 0o600
    clara("key", "create", "again", "--save")
    assert file.read_text().startswith("cda_")


def test_a_role_that_is_none_is_refused(clara: Clara) -> None:
    assert clara("key", "create", "alice", "--role", "admin").status == 2
