"""The order of commands that each workflow's code can issue, read from its source.

A replay-breaking edit changes this list; the committed one makes the edit visible in review even when no committed
history happens to take that path. Write it anew with: python tests/workflows/fingerprint.py
"""

import ast
import json
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2] / "workflows"
COMMITTED = Path(__file__).resolve().parents[1] / "replay" / "fingerprints.json"
COMMANDS = {
    "continue_as_new",
    "execute_activity_method",
    "execute_child_workflow",
    "execute_local_activity_method",
    "happened",
    "on_node",
    "patched",
    "run_if_there",
    "run_there",
    "show",
    "signal",
    "sleep",
    "start_activity_method",
    "start_child_workflow",
    "upsert_search_attributes",
    "wait_condition",
}


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _commands(function: ast.AST) -> list[str]:
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _name(node) in COMMANDS]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return [f"{_name(call)}({ast.unparse(call.args[0]) if call.args else ''})" for call in calls]


def fingerprints() -> dict[str, list[str]]:
    """``module.function`` to its commands, for every function in the workflows room that issues one."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOM.glob("*.py")):
        tree = ast.parse(path.read_text())
        for scope in ast.walk(tree):
            for node in getattr(scope, "body", []) if isinstance(scope, ast.Module | ast.ClassDef) else []:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (commands := _commands(node)):
                    owner = f"{scope.name}." if isinstance(scope, ast.ClassDef) else ""
                    found[f"{path.stem}.{owner}{node.name}"] = commands
    return found


def committed() -> dict[str, list[str]]:
    """What was committed last."""
    read: dict[str, list[str]] = json.loads(COMMITTED.read_text())
    return read


if __name__ == "__main__":
    COMMITTED.write_text(json.dumps(fingerprints(), indent=1, sort_keys=True) + "\n")
