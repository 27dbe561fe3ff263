"""The committed stubs are those that the command makes."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_regenerating_gives_the_committed_stubs(tmp_path: Path) -> None:
    subprocess.run(
        ["make", "-o", "install", "stubs", f"STUBS={tmp_path}"], cwd=ROOT, check=True, capture_output=True, timeout=60
    )
    made = {path.name: path.read_bytes() for path in tmp_path.rglob("*.py*")}
    committed = {path.name: path.read_bytes() for path in (ROOT / "clara" / "wire").glob("clara_platform_pb2*.py*")}
    assert len(made) == 4
    assert made == committed
