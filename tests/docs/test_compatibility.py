"""Each row of docs/compatibility.md has tests that prove what it says of this product."""

from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def sections(text: str) -> dict[str, list[str]]:
    """Lines that are not empty by the heading they stand under."""
    found: dict[str, list[str]] = {}
    for part in f"\n{text}".split("\n## ")[1:]:
        heading, _, below = part.partition("\n")
        found[heading] = [line for line in below.splitlines() if line]
    return found


ROWS = {
    heading: [line[2:] for line in lines if line.startswith("| ")][2:]
    for heading, lines in sections((ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")).items()
    if heading != "Not there yet"
}
TESTS = sections(Path(__file__).with_name("compatibility_rows.txt").read_text(encoding="utf-8"))


def test_every_section_is_proven() -> None:
    assert list(TESTS) == list(ROWS)
    assert sum(map(len, ROWS.values())) > 80


@pytest.mark.parametrize("heading", ROWS)
def test_every_row_has_tests_that_exist(heading: str) -> None:
    proofs = [line.split(" => ") for line in TESTS[heading]]
    begins = [begin for begin, _ in proofs]
    assert [[begin for begin in begins if row.startswith(begin)] for row in ROWS[heading]] == [
        [each] for each in begins
    ]
    for _, tests in proofs:
        for module, names in groupby(tests.split(), key=lambda test: test.partition("::")[0]):
            text = (ROOT / "tests" / module).read_text(encoding="utf-8")
            for name in names:
                assert f"def {name.partition('::')[2]}(" in text, name
