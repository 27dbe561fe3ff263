"""Writes histories for the replay test from a Temporal server that has run the present workflows.

    python tests/workflows/record_histories.py 127.0.0.1:7233 [TYPE ...]

Without types it writes them all. Takes the shortest and the longest closed history of each type, and the open one of
those that never close.
"""

import asyncio
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

FOLDER = Path(__file__).resolve().parents[1] / "replay"
TYPES = (
    "ReceiveWorkflow",
    "SubmissionWorkflow",
    "ExportWorkflow",
    "JobFollowerWorkflow",
    "PlatformJobWorkflow",
    "ResultsPollerWorkflow",
)


def scrubbed(history: WorkflowHistory) -> str:
    """As JSON, without the name of the machine that recorded it."""
    anonymous = re.sub(r'("identity": ")[^"]*"', r'\1worker"', history.to_json())
    return anonymous.replace(socket.gethostname(), "machine")


async def record(address: str, kinds: Sequence[str]) -> None:
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    for kind in kinds:
        histories: list[tuple[int, WorkflowHistory]] = []
        async for found in client.list_workflows(f"WorkflowType = '{kind}'"):
            handle = client.get_workflow_handle(found.id, run_id=found.run_id)
            history = await handle.fetch_history()
            histories.append((len(history.events), history))
        histories.sort(key=lambda pair: pair[0])
        folder = FOLDER / kind
        folder.mkdir(parents=True, exist_ok=True)
        for name, (_, history) in zip(("short", "long"), (histories[0], histories[-1]), strict=True):
            (folder / f"{name}.json").write_text(scrubbed(history) + "\n")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1], sys.argv[2:] or TYPES))
