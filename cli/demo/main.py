"""``clara demo``: sets the stage, plays, reports, and leaves nothing behind unless it is told to."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

from clara_dicom_adapter.cli.demo import report
from clara_dicom_adapter.cli.demo.site import LOOK_SECONDS, Site
from clara_dicom_adapter.cli.demo.story import Stage
from clara_dicom_adapter.cli.output import print_json, to_stderr
from clara_dicom_adapter.errors import AdapterError

OUTPUT: Final = Path("demo-output")
"""Pictures, and the logs of a demo that failed; in the working folder."""
PICTURES_SECONDS: Final = 120
REMOVE_SECONDS: Final = 20.0


def run(*, keep: bool, as_json: bool) -> int:
    """Play the demo; the exit status says whether everything matched.

    Raises:
        AdapterError: It could not be played to its end.
    """
    examples = _examples()
    begun = time.monotonic()

    def tell(text: str) -> None:
        to_stderr(f"[{time.monotonic() - begun:5.1f} s] {text}")

    root = Path(tempfile.mkdtemp(prefix="clara-demo-"))
    site = Site(root, detached=keep)
    kept = ok = False
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        stage = Stage(site, examples, tell)
        story = stage.play()
        ok = report.succeeded(story)
        pictures = _pictures(site, stage.study, examples, sorted(story.accounts.at_pacs))
        kept = keep
        seconds = time.monotonic() - begun
        if as_json:
            print_json(report.for_machines(story, site, pictures, seconds, kept=kept))
        else:
            report.for_people(story, site, pictures, seconds, kept=kept)
    finally:
        if not kept:
            site.stop()
            if not ok:
                _save_logs(site)
            _remove(root)
        signal.signal(signal.SIGTERM, before)
    return 0 if ok else 1


def _remove(root: Path) -> None:
    """Delete the folder; what was killed may still have written to it a moment ago."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while root.exists() and time.monotonic() < deadline:
        shutil.rmtree(root, ignore_errors=True)
        if root.exists():
            time.sleep(LOOK_SECONDS)
    if root.exists():
        to_stderr(f"{root} could not be deleted: something still writes there")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _examples() -> Path:
    """The examples of the checkout that this code belongs to."""
    examples = Path(__file__).resolve().parents[2] / "examples"
    if not (examples / "pipelines").is_dir():
        raise AdapterError("the demo needs the examples of a checkout: clone the repository and run `make demo` there")
    return examples


def _pictures(site: Site, study: Path, examples: Path, results: list[str]) -> list[Path]:
    """Draw input and results; pictures are for the eye, so a failure is told but fails nothing."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    try:
        site.pacs.fetch(results, site.root / "results")
        folders = [str(study), str(site.root / "results"), str(OUTPUT.absolute())]
        done = subprocess.run(
            [sys.executable, str(examples / "pictures.py"), *folders],
            capture_output=True,
            text=True,
            timeout=PICTURES_SECONDS,
            check=True,
        )
    except (AdapterError, OSError, subprocess.SubprocessError) as error:
        to_stderr(f"no pictures could be made: {error}")
        return []
    return [Path(line) for line in done.stdout.splitlines()]


def _save_logs(site: Site) -> None:
    logs = OUTPUT / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for log in (*site.root.glob("*.log"), *site.data.logs.glob("*.log")):
        shutil.copy(log, logs)
    to_stderr(f"the logs are in {logs.absolute()}")
