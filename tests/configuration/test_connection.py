"""Connection strings in the forms of .NET and SQLAlchemy, from file and environment."""

from pathlib import Path

import pytest

from clara_dicom_adapter.configuration.connection import database_url
from clara_dicom_adapter.configuration.reader import load
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import ConfigurationInvalid

DATA = DataFolder(Path("/data"))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "sqlite:////data/dicomadapter.db"),
        ("Data Source=dicomadapter.db", "sqlite:////data/dicomadapter.db"),
        (
            "data source = /database/dicomadapter.db ;Mode=ReadWriteCreate;Cache=Shared",
            "sqlite:////database/dicomadapter.db",
        ),
        ("Filename=x.db;", "sqlite:////data/x.db"),
        ("sqlite:///x.db", "sqlite:////data/x.db"),
        ("postgresql://u:p@h:5433/n", "postgresql+psycopg://u:p@h:5433/n"),
        ("postgres://h/n?sslmode=require", "postgresql+psycopg://h/n?sslmode=require"),
        ("Host=h;Database=n", "postgresql+psycopg://h:5432/n"),
        ("Host=h;Port=5433;Database=n;Username=u;Password=p", "postgresql+psycopg://u:p@h:5433/n"),
        ("Server=h;Database=n;User Id=u;Password='p@;'", None),
        ("Server=h;Database=n;User Id=u;Password=p@/:", "postgresql+psycopg://u:p%40%2F%3A@h:5432/n"),
        ("Host=h;Database=n;SSL Mode=VerifyFull", "postgresql+psycopg://h:5432/n?sslmode=verify-full"),
        ("Host=h", None),
        ("Host=h;Database=n;Port=x", None),
        ("Host=h;Database=n;Colour=red", None),
        ("Data Source=:memory:", None),
        ("mysql://h/n", None),
        ("nonsense", None),
        ("postgresql://h:port/n", None),
    ],
)
def test_every_form_is_understood_or_refused(text: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(ConfigurationInvalid, match="ConnectionStrings>DicomAdapterDatabase must be"):
            database_url(text, DATA)
    else:
        assert database_url(text, DATA).render_as_string(hide_password=False) == url


def test_the_variable_wins_over_the_file_and_its_password_is_never_repeated(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    file = tmp_path / "appsettings.json"
    file.write_text('{"ConnectionStrings": {"DicomAdapterDatabase": "Data Source=a.db"}}')
    assert load(None, data, {}).database == "Data Source=a.db"
    name = "ConnectionStrings__DicomAdapterDatabase"
    assert load(None, data, {name: "postgresql://h/n"}).database == "postgresql://h/n"
    with pytest.raises(ConfigurationInvalid) as caught:
        load(None, data, {name: "mysql://me:secret@h/n"})
    assert "secret" not in str(caught.value)
    assert f"(variable {name})" in str(caught.value)
