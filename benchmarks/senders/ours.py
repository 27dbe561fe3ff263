"""Our sender as an export runs it, journal and all, without Temporal: ``ours.py PORT FOLDER ASSOCIATIONS JOURNALS``.

It says ``ready``, begins at a line on standard input, and says what it did as a line of JSON.
"""

import asyncio
import gc
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clara_dicom_adapter import log
from clara_dicom_adapter.activities.export_folder import ExportFolders
from clara_dicom_adapter.activities.export_journal import Outcome
from clara_dicom_adapter.activities.export_ledger import Ledger
from clara_dicom_adapter.activities.export_sending import Route, Sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.dicom.sender import Peer, SendSettings
from clara_dicom_adapter.workflows.models import SendInput
from senders.clock import measured


class NoRecords:
    """The SQL database has the results every two seconds; it is not what is measured."""

    def delivered(self, task_id: str, destination: str) -> frozenset[int]:
        del task_id, destination
        return frozenset()

    def unknown(self, task_id: str, destination: str) -> Mapping[int, str]:
        del task_id, destination
        return {}

    def save_results(self, task_id: str, destination: str, results: Sequence[Outcome]) -> None:
        del task_id, destination, results


def main() -> None:
    port, folder, associations = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    log.configure(log.LogSetup({"Default": "Warning"}), part="bench")
    request = SendInput(task_id="bench", agent="BENCH", destination="BENCH")
    route = Route("bench", Peer("BENCH", "127.0.0.1", port), SendSettings("BENCH", retries=0), associations, 3600)

    def send() -> int:
        files = dict(enumerate(sorted(folder.iterdir())))
        task = ExportFolders(Path(sys.argv[4])).of("bench")
        task.create("bench", "BENCH", ())
        ledger = Ledger(request, task, NoRecords())
        with ThreadPoolExecutor(associations) as threads:
            asyncio.run(Sending(files, ledger, Turns(associations), threads).to(route))
        if ledger.failed:
            raise SystemExit(ledger.message)
        return len(ledger.delivered)

    gc.collect()
    gc.freeze()  # as the worker does
    measured(send)


if __name__ == "__main__":
    main()
