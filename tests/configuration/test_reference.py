"""docs/configuration.md says what the model says."""

from pathlib import Path

from clara_dicom_adapter.configuration.reference import refreshed

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_not_stale() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert refreshed(page) == page, "run: make docs"


def test_every_setting_is_explained() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_number_has_a_unit_or_counts_something() -> None:
    """A number whose name does not say what it counts needs a unit."""
    numbers = {
        (row.split("`")[1], row.split(" | ")[2].strip())
        for row in PAGE.read_text(encoding="utf-8").splitlines()
        if row.startswith("| `") and "number, " in row
    }
    counted = ("port", "Port", "receivers", "Associations", "etries", "Threshold", "Uploads", "Limit")
    assert len(numbers) > 30
    assert [name for name, unit in numbers if not unit and not name.endswith(counted)] == []
