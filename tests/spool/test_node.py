"""Whose a spool is: its id, its locks, its format."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clara_dicom_adapter.errors import SpoolInUse, SpoolUnusable
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.spool.node import FORMAT_VERSION

OPEN_AND_WAIT = """
import sys
from pathlib import Path
from clara_dicom_adapter.spool import Spool, SpoolRole
spool = Spool.open(Path(sys.argv[1]), SpoolRole(sys.argv[2]))
print(spool.node_id, flush=True)
sys.stdin.read()
"""


def test_the_id_stays_with_the_folder(root: Path, tmp_path: Path) -> None:
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        node_id = spool.node_id
    moved = root.rename(tmp_path / "elsewhere")
    with Spool.open(moved, SpoolRole.WORKER) as spool:
        assert spool.node_id == node_id
        assert spool.node_ids == (node_id,)


@pytest.mark.parametrize("role", [SpoolRole.RECEIVER, SpoolRole.WORKER])
def test_two_processes_never_have_one_role_and_a_killed_one_leaves_no_lock(root: Path, role: SpoolRole) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_WAIT, root, role.value], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        node_id = other.stdout.readline().decode().strip()
        with pytest.raises(SpoolInUse, match=f"another {role.value}"):
            Spool.open(root, role)
        for beside in set(SpoolRole) - {role}:
            with Spool.open(root, beside) as spool:
                assert spool.node_id == node_id
        other.kill()
        other.wait(10)
    Spool.open(root, role).close()


def test_a_refused_role_can_be_had_later_by_the_same_process(root: Path) -> None:
    first = Spool.open(root, SpoolRole.RECEIVER)
    with pytest.raises(SpoolInUse):
        Spool.open(root, SpoolRole.RECEIVER)
    first.close()
    Spool.open(root, SpoolRole.RECEIVER).close()


def test_processes_that_start_at_once_agree_on_the_id(root: Path) -> None:
    command = [sys.executable, "-c", OPEN_AND_WAIT, str(root), "tool"]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    ids = set()
    for other in others:
        with other:
            answer, _ = other.communicate(timeout=60)
            ids.add(answer.strip())
            assert other.returncode == 0
    assert len(ids) == 1


def test_a_newer_format_is_not_touched(root: Path) -> None:
    Spool.open(root, SpoolRole.TOOL).close()
    facts = json.loads((root / "node.json").read_text())
    (root / "node.json").write_text(json.dumps({**facts, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(SpoolUnusable, match="newer version"):
        Spool.open(root, SpoolRole.RECEIVER)


def test_instances_without_a_node_are_not_given_a_new_one(root: Path) -> None:
    (root / "associations" / ("0" * 32)).mkdir(parents=True)
    with pytest.raises(SpoolUnusable, match="missing"):
        Spool.open(root, SpoolRole.RECEIVER)


def test_unreadable_node_facts_are_told(root: Path) -> None:
    root.mkdir()
    (root / "node.json").write_text("{")
    with pytest.raises(SpoolUnusable, match=r"node\.json"):
        Spool.open(root, SpoolRole.RECEIVER)
