"""Brings the documentation up to date and checks it: ``make docs``.

Generated: the settings tables of ``configuration.md``, and ``build/docs/openapi.json``. Checked: that relative links,
headings, paths, commands, settings, search attributes, states and metrics which pages name exist, and that every metric
is listed. Rendered: the pages as HTML into ``build/docs``, to be read in a browser.
"""

import html
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import typer.main
from markdown_it import MarkdownIt  # comes with rich, which shows tables on the command line
from pydantic import BaseModel

from clara_dicom_adapter.api.app import create_app
from clara_dicom_adapter.api.dependencies import Dependencies
from clara_dicom_adapter.cli.app import dicom
from clara_dicom_adapter.configuration import known_keys
from clara_dicom_adapter.configuration.reference import refreshed
from clara_dicom_adapter.configuration.settings import ApiSettings, Settings
from clara_dicom_adapter.temporal import attributes

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
OUTPUT: Final = ROOT / "build" / "docs"

_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCE: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`([^`\n]+)`")
_COMMAND: Final = re.compile(r"clara dicom ([a-z|]+)(?: ([a-z|]+)\b)?")
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_ATTRIBUTE: Final = re.compile(
    r"\bClara(?:AeTitle|State|Node|Pipeline|JobId|Instances|Incomplete|Destination|Calling\w+)\b"
)
_STATES: Final = re.compile(r"ClaraState (?:IN \(([^)]*)\)|= ('[^']*'))")
_METRIC: Final = re.compile(r"\bclara_dicom_[a-z_]+")
_METRIC_IN_CODE: Final = re.compile(r'"(clara_dicom_[a-z_]+)"')
_METRIC_ROW: Final = re.compile(r"^\| `(clara_dicom_[a-z_]+)` \|", re.MULTILINE)
_METRICS_IN: Final = ("activities/metrics.py", "receiver/metrics.py", "receiver/service.py", "api/metrics.py")


def pages(root: Path = ROOT) -> list[Path]:
    """Every page that readers get."""
    named = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*named, *sorted((root / "docs").rglob("*.md")), *sorted((root / "examples").rglob("*.md"))]


def problems(root: Path = ROOT) -> list[str]:
    """Everything in the pages that is not so, one line each."""
    found: list[str] = []
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(root)
        checks = (
            _broken_links(page, text),
            _missing_paths(root, text),
            _unknown_commands(text),
            _unknown_settings(text),
            _unknown_attributes(text),
            _unknown_metrics(root, text),
        )
        found += [f"{name}: {problem}" for check in checks for problem in check]
    return found + [f"docs/metrics.md: {problem}" for problem in _untold_metrics(root)]


# ---- links ----


def anchor(heading: str) -> str:
    """The fragment that forges make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def _broken_links(page: Path, text: str) -> Iterator[str]:
    for target in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue  # another site
        file, _, fragment = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        if not linked.exists():
            yield f"link to {target}: there is no such file"
        elif fragment and linked.suffix == ".md":
            headings = _HEADING.findall(_FENCE.sub("", linked.read_text(encoding="utf-8")))
            if fragment not in map(anchor, headings):
                yield f"link to {target}: there is no such heading"


# ---- names ----


def _missing_paths(root: Path, text: str) -> Iterator[str]:
    """Code in the text that looks like one of our files or folders: the first part is a folder at the top."""
    tops = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"build", "dist"}
    for code in _CODE.findall(_FENCE.sub("", text)):
        first, slash, rest = code.partition("/")
        if slash and first in tops and re.fullmatch(r"[\w./-]*", rest) and not _exists(root / code):
            yield f"`{code}` does not exist"


def _exists(path: Path) -> bool:
    return path.exists() or path.name in {"platform.db", "logs"}  # of the data folder, which has a room's name in it


def _unknown_commands(text: str) -> Iterator[str]:
    """``clara dicom A B``: A is a command, or a group that has B; ``A|B`` are several."""
    root = typer.main.get_command(dicom)
    for first, second in sorted(set(_COMMAND.findall(text))):
        for name in first.split("|"):
            command = getattr(root, "commands", {}).get(name)
            below = getattr(command, "commands", {})
            if command is None:
                yield f"there is no command `clara dicom {name}`"
            for sub in second.split("|") if below and second else ():
                if sub not in below:
                    yield f"there is no command `clara dicom {name} {sub}`"


def _unknown_settings(text: str) -> Iterator[str]:
    """``a>b>c``: names of sections and settings."""
    known = {"DicomAdapter", "ConnectionStrings", "DicomAdapterDatabase", "sources", "destinations"}
    known |= set(_settings(Settings))
    for code in sorted(set(_CODE.findall(_FENCE.sub("", text)))):
        if re.fullmatch(r"\w+(>\w+)+", code) and not code.startswith(("Logging>", "Serilog>")):
            yield from (f"{name} in `{code}` is no setting" for name in code.split(">") if name not in known)


def _settings(model: type[BaseModel]) -> Iterator[str]:
    for name in known_keys.names(model):
        yield name
        below = known_keys.section(model, name)
        if below is not None:
            yield from _settings(below)


def _unknown_attributes(text: str) -> Iterator[str]:

    known = {key.name for key in attributes.ALL} | {"ClaraAeTitleList"}
    for name in sorted(set(_ATTRIBUTE.findall(text)) - known):
        yield f"{name} is no search attribute"
    states = {state.value for state in attributes.State}
    for several, one in _STATES.findall(text):
        for state in sorted(set(re.findall(r"'([^']*)'", several or one)) - states):
            yield f"{state} is no value of ClaraState"


def _unknown_metrics(root: Path, text: str) -> Iterator[str]:
    known = _metrics(root)
    for name in sorted(set(_METRIC.findall(text))):
        if name.removesuffix("_total") not in known and not name.startswith("clara_dicom_adapter"):
            yield f"{name} is no metric"


def _untold_metrics(root: Path) -> Iterator[str]:
    """What is exported and not in the first column of a table of the page of metrics."""
    page = root / "docs" / "metrics.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    told = {name.removesuffix("_total") for name in _METRIC_ROW.findall(text)}
    yield from (f"{name} is not listed" for name in sorted(_metrics(root) - told))


def _metrics(root: Path) -> set[str]:
    """Names of all metrics, those of counters without ``_total``."""
    code = "".join((root / name).read_text(encoding="utf-8") for name in _METRICS_IN)
    recorded = {f"clara_dicom_recorded_{name}" for name in ("associations", "groups", "submissions", "exports", "jobs")}
    return set(_METRIC_IN_CODE.findall(code)) | recorded


# ---- generated ----


def refresh() -> None:
    """Write what is made from the code."""

    page = DOCS / "configuration.md"
    page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "openapi.json").write_text(json.dumps(openapi(), indent=2) + "\n", encoding="utf-8")


def openapi() -> dict[str, Any]:
    """The description of the REST interface; nothing is opened for it."""

    return create_app(
        cast(Dependencies, SimpleNamespace(settings=ApiSettings(), explainer=True, authenticator=True, log_levels=True))
    ).openapi()


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
td, th {{ border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }}
code, pre {{ background: #f4f4f4; font-size: .9em; }} pre {{ padding: .8rem; overflow-x: auto; }}
</style>
<p><a href="{home}">Clara DICOM Adapter</a></p>
{body}</html>
"""


def render(root: Path = ROOT, output: Path = OUTPUT) -> list[Path]:
    """The pages as HTML, at the same places."""
    markdown = MarkdownIt("commonmark").enable("table")
    written: list[Path] = []
    for page in pages(root):
        place = page.relative_to(root)
        target = output / place.with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = page.read_text(encoding="utf-8")
        body = re.sub(
            r"<h([1-6])>(.*?)</h\1>",
            lambda match: (
                f'<h{match[1]} id="{anchor(html.unescape(re.sub("<[^>]+>", "", match[2])))}">{match[2]}</h{match[1]}>'
            ),
            re.sub(r'href="(?![a-z]+:)([^"#]+)\.md', r'href="\1.html', markdown.render(text)),
        )
        title = (_HEADING.findall(text) or [place.stem])[0]
        home = "../" * (len(place.parts) - 1) + "README.html"
        target.write_text(_PAGE.format(title=title, home=home, body=body), encoding="utf-8")
        written.append(target)
    return written


def main(arguments: Sequence[str] = ()) -> int:
    """Bring up to date, render and check; with ``--check`` check alone."""
    if "--check" not in arguments:
        refresh()
        print(f"{len(render())} pages in {OUTPUT.relative_to(ROOT)}")  # noqa: T201 - the result, for who called make
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)  # noqa: T201 - likewise
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
