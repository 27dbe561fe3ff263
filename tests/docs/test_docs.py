"""The pages name only what exists, and the checks that say so find what does not."""

import importlib.util
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = load_build()


def test_the_pages_name_only_what_exists() -> None:
    assert len(build.pages()) > 15
    assert build.problems() == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one page to write to; the names of metrics are looked up in the real sources."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_text("# A page\n")
    for folder in ("docs", "examples", "activities", "receiver", "api"):
        (tmp_path / folder).mkdir()
    for name in build._METRICS_IN:
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"))
    rows = [f"| `{name}` | gauge |\n" for name in sorted(build._metrics(ROOT))]
    (tmp_path / "docs" / "metrics.md").write_text("# Metrics\n\n" + "".join(rows))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[x](away.md)", "link to away.md: there is no such file"),
        ("[x](../README.md#nowhere)", "link to ../README.md#nowhere: there is no such heading"),
        ("`receiver/none.py`", "`receiver/none.py` does not exist"),
        ("```\nclara dicom strat\n```", "there is no command `clara dicom strat`"),
        ("`clara dicom list studies`", "there is no command `clara dicom list studies`"),
        ("`clara dicom receiver|wrker`", "there is no command `clara dicom wrker`"),
        ("`storage>watermarkPrecent`", "watermarkPrecent in `storage>watermarkPrecent` is no setting"),
        ("ClaraCallingTitle", "ClaraCallingTitle is no search attribute"),
        ("`ClaraState = 'Lost'`", "Lost is no value of ClaraState"),
        ("`clara_dicom_instances_lost_total`", "clara_dicom_instances_lost_total is no metric"),
    ],
)
def test_what_does_not_exist_is_told(tree: Path, text: str, problem: str) -> None:
    (tree / "docs" / "page.md").write_text(f"# Page\n\n{text}\n")
    assert build.problems(tree) == [f"docs/page.md: {problem}"]


def test_what_exists_is_accepted(tree: Path) -> None:
    (tree / "docs" / "page.md").write_text(
        "# Page\n\n[x](../README.md#a-page), [y](https://example.org/z.md), `receiver/metrics.py`,\n"
        "`storage>watermarkPercent`, `clara dicom list exports`, `ClaraState IN ('Held', 'Quarantined')`,\n"
        "`clara_dicom_instances_failed_total`\n"
    )
    assert build.problems(tree) == []


def test_a_metric_that_is_not_listed_is_told(tree: Path) -> None:
    page = tree / "docs" / "metrics.md"
    page.write_text(page.read_text().replace("| `clara_dicom_listeners` |", "| the `clara_dicom_listeners` |"))
    assert build.problems(tree) == ["docs/metrics.md: clara_dicom_listeners is not listed"]


def test_no_module_exports_metrics_unseen() -> None:
    exporting = {
        str(path.relative_to(ROOT))
        for room in (
            "activities",
            "api",
            "clara",
            "cli",
            "receiver",
            "records",
            "spool",
            "temporal",
            "workflows",
            "src",
        )
        for path in (ROOT / room).rglob("*.py")
        if build._METRIC_IN_CODE.search(path.read_text(encoding="utf-8").replace('"clara_dicom_adapter', ""))
    }
    assert exporting == set(build._METRICS_IN)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if tag == "a" and name == "href"]


def test_the_pages_can_be_read_in_a_browser(tmp_path: Path) -> None:
    written = build.render(output=tmp_path)
    assert tmp_path / "docs" / "operations.html" in written
    for page in written:
        links = _Links()
        links.feed(page.read_text(encoding="utf-8"))
        local = [target.partition("#")[0] for target in links.targets if ":" not in target and ".html" in target]
        assert local
        assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_rest_interface_is_described_without_a_running_adapter() -> None:
    described = build.openapi()
    assert "/api/config/claraaetitle" in described["paths"]
    assert all(
        operation["summary"] and operation["operationId"]
        for path in described["paths"].values()
        for operation in path.values()
    )
