"""What the benchmarks measure: the adapter as its user starts it, with a platform of its own beside it.

The platform runs on a Temporal server of its own, so that what is measured of the adapter's is the adapter's alone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from machine import descendants
from sqlalchemy import Engine, func, select

from clara_dicom_adapter import part_status
from clara_dicom_adapter.cli.running import AdapterState, AdapterStatus, read_status
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.configuration.tables import reading
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.tables import EventRow, InstanceRow, SubmissionRow
from clara_dicom_adapter.workflows.models import JobOutcome

CALLING = "BENCH"
PIPELINE = """
name: nothing
description: The cheapest command there is
operators:
  - name: nothing
    command: ["true"]
"""


def wait_until(what: str, condition: Callable[[], bool], seconds: float, *, pause: float = 0.05) -> None:
    """Wait for a condition, and give up with words."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


class Rig:
    """The adapter and the platform, each with its own data folder and its own Temporal server."""

    def __init__(self, root: Path) -> None:
        self.data = DataFolder(root / "adapter")
        self.platform_data = DataFolder(root / "platform")
        self._config = root / "appsettings.json"
        self._log = root / "log"
        # as where it is installed: compiled modules are kept, for the workflow sandbox loads them often
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment["PYTHONPYCACHEPREFIX"] = str(root / "compiled")
        self._beside: dict[str, subprocess.Popen[bytes]] = {}
        self._adapter: subprocess.Popen[bytes] | None = None
        self._engine: Engine | None = None

    @classmethod
    @contextmanager
    def running(cls, root: Path) -> Iterator["Rig"]:
        """Start everything; stop everything."""
        rig = cls(root)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left running
        with ExitStack() as stack:
            stack.callback(rig._stop)
            rig._start_platform()
            rig._start_adapter()
            yield rig

    # ---- starting and stopping ----

    def _start_platform(self) -> None:
        self.platform_data.pipelines.mkdir(parents=True)
        (self.platform_data.pipelines / "nothing.yaml").write_text(PIPELINE)
        self._start_beside("temporal", {"services__temporal__embeddedPort": 0, "services__temporal__embeddedUiPort": 0})
        temporal = self._wait_for("temporal")["temporal"]
        ports = {"services__platform__embeddedPort": 0, "services__platform__embeddedResultsPort": 0}
        self._start_beside("platform", {"services__temporal__address": temporal, **ports})
        self._wait_for("platform")

    def _start_beside(self, part: str, told: Mapping[str, object]) -> None:
        command = [sys.executable, "-m", f"clara_dicom_adapter.cli.parts.{part}_part"]
        environment = {f"DicomAdapter__{name}": str(value) for name, value in told.items()}
        with self._log.open("ab") as log:
            self._beside[part] = subprocess.Popen(
                [*command, "--data-dir", str(self.platform_data.root)],
                env={**self._environment, **environment},
                stdout=log,
                stderr=log,
            )

    def _wait_for(self, part: str) -> Mapping[str, str]:
        path = self.platform_data.run / f"{part}.json"

        def ready() -> bool:
            self._complain(self._beside[part], part)
            written = part_status.read_one(path)
            return written is not None and written.ready and written.alive

        wait_until(f"the platform's {part} is ready", ready, 120)
        written = part_status.read_one(path)
        assert written is not None
        addresses: Mapping[str, str] = written.facts["addresses"]
        return addresses

    def _start_adapter(self) -> None:
        platform = self._wait_for("platform")
        self._config.write_text(
            json.dumps(
                {
                    "DicomAdapter": {
                        "dicom": {"scp": {"port": 0, "host": "127.0.0.1", "maximumNumberOfAssociations": 200}},
                        "services": {
                            "platform": {"endpoint": platform["platform"], "retryDelaySeconds": 1},
                            "resultsServiceEndpoint": f"http://{platform['results_service'].rpartition('/')[2]}",
                            "temporal": {"embeddedPort": 0, "embeddedUiPort": 0},
                        },
                        "storage": {"watermarkPercent": 100, "reserveSpaceGB": 0.1},
                        "api": {"port": 0},
                    }
                }
            )
        )
        command = [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", "start", "--config", str(self._config)]
        with self._log.open("ab") as log:
            self._adapter = subprocess.Popen(
                [*command, "--data-dir", str(self.data.root)],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def ready() -> bool:
            self._complain(self._adapter, "adapter")
            status = read_status(self.data)
            return (
                status is not None
                and status.state is AdapterState.RUNNING
                and all(part.state == "ready" for part in status.parts)
            )

        wait_until("every part is ready", ready, 120)
        self._engine = open_engine("", self.data)
        self.clara("create", "src", "-a", CALLING, "-i", "127.0.0.1")

    def _complain(self, process: subprocess.Popen[bytes] | None, name: str) -> None:
        if process is not None and process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-3000:]
            raise SystemExit(f"{name} ended with {process.returncode}:\n{tail}")

    def _stop(self) -> None:
        beside = list(reversed(self._beside.values()))
        for process in ([self._adapter] if self._adapter else []) + beside:
            for member in (process.pid, *descendants(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGCONT)
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()

    def clara(self, *arguments: str) -> str:
        """Run a command on the adapter's data folder."""
        command = [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", *arguments]
        return subprocess.run(
            [*command, "--data-dir", str(self.data.root)], check=True, capture_output=True, text=True, timeout=120
        ).stdout

    def create_ae_title(self, ae_title: str, timeout: float) -> None:
        """One more AE title whose groups all go to the cheapest pipeline, known to the receiver when this returns."""
        self.clara("create", "aetitle", "-a", ae_title, "pipeline-nothing=nothing", f"timeout={timeout:g}")

    # ---- what it is ----

    @property
    def status(self) -> AdapterStatus:
        status = read_status(self.data)
        assert status is not None
        return status

    @property
    def dicom_port(self) -> int:
        return int(self.status.addresses["dicom"].rpartition(":")[2])

    @property
    def temporal_address(self) -> str:
        return self.status.addresses["temporal"]

    def processes(self) -> dict[str, list[int]]:
        """Process ids by part; what is not the adapter's has a name that says so."""
        assert self._adapter is not None
        parts = {part.name: part.pid for part in self.status.parts if part.pid}
        parts["supervisor"] = self._adapter.pid
        parts |= {f"platform's {name}" if name != "platform" else name: p.pid for name, p in self._beside.items()}
        families = {name: [pid, *descendants(pid)] for name, pid in parts.items()}
        families["supervisor"] = [self._adapter.pid]
        return families

    @contextmanager
    def jobs_held(self, held: bool) -> Iterator[None]:
        """Whether started jobs run at once or wait until this ends: the platform's Temporal server is frozen."""
        family = self.processes()["platform's temporal"] if held else []
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                os.kill(pid, signal.SIGCONT)

    # ---- what the records say ----

    def started_jobs(self) -> int:
        """How many times a job was noted as started."""
        return self._scalar(select(func.count()).where(EventRow.kind == "job", EventRow.what == JobOutcome.STARTED))

    def submissions(self, state: str) -> int:
        """How many submissions are in a state."""
        return self._scalar(select(func.count()).where(SubmissionRow.state == state))

    def started_at(self) -> dict[str, float]:
        """SOP instance UID to when the job with it was noted as started, seconds since the epoch."""
        started = select(EventRow.subject, EventRow.at).where(
            EventRow.kind == "job", EventRow.what == JobOutcome.STARTED
        )
        instances = select(InstanceRow.submission_id, InstanceRow.sop_instance_uid)
        assert self._engine is not None
        with reading(self._engine) as connection:
            at: dict[str, datetime] = {row.subject.partition("/")[0]: row.at for row in connection.execute(started)}
            rows = connection.execute(instances).all()
        return {row.sop_instance_uid: at[row.submission_id].timestamp() for row in rows if row.submission_id in at}

    def submission_of(self, sop_instance_uid: str) -> tuple[str, str]:
        """Workflow ids of the ReceiveWorkflow and of the submission that an instance went through."""
        assert self._engine is not None
        statement = (
            select(SubmissionRow.received_by, SubmissionRow.submission_id)
            .join(InstanceRow, InstanceRow.submission_id == SubmissionRow.submission_id)
            .where(InstanceRow.sop_instance_uid == sop_instance_uid)
        )
        with reading(self._engine) as connection:
            received_by, submission_id = connection.execute(statement).one()
        return received_by, submission_id

    def _scalar(self, statement: Any) -> int:
        assert self._engine is not None
        with reading(self._engine) as connection:
            return int(connection.scalar(statement) or 0)
