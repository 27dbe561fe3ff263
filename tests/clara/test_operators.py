"""Running jobs' operators, without Temporal."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from machine import alive
from support.platform import COPY, RunningPlatform

from clara_dicom_adapter.clara.embedded.runner import OperatorOutcome
from clara_dicom_adapter.clara.model import JobPriority, JobState, JobStatus, OperatorStatus
from clara_dicom_adapter.clara.results import ResultsServiceClient, destinations


def never() -> bool:
    return False


def started_job(platform: RunningPlatform, operators: str, upload: Path | None = None) -> str:
    """A running job of a pipeline with these operators (YAML)."""
    number = len(list(platform.pipelines.iterdir()))
    (platform.pipelines / f"p{number}.yaml").write_text(f"name: p{number}\n{operators}")
    client = platform.client
    job_id, payload_id = client.create_job(client.resolve_pipeline(f"p{number}"), "j", JobPriority.NORMAL, {})
    if upload:
        client.upload(payload_id, f"dcm/{upload.name}", upload)
    client.start_job(job_id)
    return job_id


def python(code: str, **more: object) -> str:
    """One operator, ``op``, that runs Python."""
    operator = {"name": "op", "command": ["python", "-c", code], **more}
    return f"operators: {json.dumps([operator])}\n"


def run(platform: RunningPlatform, job_id: str, stopped: Callable[[], bool] = never) -> OperatorOutcome:
    return platform.service.runner.run_operator(job_id, "op", stopped)


def await_file(path: Path, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        threading.Event().wait(0.02)
    pytest.fail(f"{path.name} did not appear")


def work_is_cleared(platform: RunningPlatform) -> bool:
    return not [path for path in (platform.folder / "platform" / "work").rglob("*") if path.is_file()]


def test_a_pipeline_turns_uploads_into_registered_results(platform: RunningPlatform, tmp_path: Path) -> None:
    source = tmp_path / "a.dcm"
    source.write_bytes(b"bytes")
    client, runner = platform.client, platform.service.runner
    job_id, payload_id = client.create_job(client.resolve_pipeline("copy"), "j", JobPriority.NORMAL, {})
    client.upload(payload_id, "dcm/a.dcm", source)
    client.start_job(job_id)
    assert runner.run_operator(job_id, "copy", never).completed
    assert runner.run_operator(job_id, "copy", never).completed, "safe to repeat"
    assert runner.finish(job_id, JobStatus.HEALTHY, "") == 2
    assert runner.finish(job_id, JobStatus.FAULTED, "late") == 2, "the first end stays, and registers once"

    job = client.job_status(job_id)
    assert (job.state, job.status, job.messages) == (JobState.STOPPED, JobStatus.HEALTHY, ())
    assert [operator.status for operator in job.operators] == [OperatorStatus.COMPLETED]
    assert list(client.read_logs(job_id)) == [("copy", "hello")]
    with ResultsServiceClient(platform.service.results_endpoint) as results:
        tasks = results.pending("ClaraSCU")
    assert [destinations(task.parameters) for task in tasks] == [("PACS1",), ("PACS2",)]
    assert {(task.job_id, task.payload_id, task.uris) for task in tasks} == {
        (job_id, payload_id, ("operators/copy/dcm/a.dcm",))
    }
    assert client.download(payload_id, tasks[0].uris[0], tmp_path / "result") == 5
    assert work_is_cleared(platform)


def test_an_operator_sees_its_folders_and_nothing_of_ours(
    start_platform: Callable[..., RunningPlatform], tmp_path: Path
) -> None:
    platform = start_platform(surroundings={"PATH": os.environ["PATH"], "SECRET_TOKEN": "s", "CLARA_SPOOL": "/spool"})
    code = (
        "import json, os; print(json.dumps({'cwd': os.getcwd(), 'env': dict(os.environ), "
        "'fds': sorted(os.path.realpath('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if f > '2')}))"
    )
    job_id = started_job(platform, "parameters: {p: given}\n" + python(code, environment={"X": "{p} {job}"}))
    assert run(platform, job_id).completed
    ((_, line),) = platform.client.read_logs(job_id, "op")
    seen = json.loads(line)
    environment = seen["env"]
    assert "SECRET_TOKEN" not in environment
    assert "CLARA_SPOOL" not in environment
    assert environment["X"] == f"given {job_id}"
    assert environment["CLARA_JOB_ID"] == job_id
    payload = platform.folder / "platform" / "payloads" / platform.client.job_status(job_id).payload_id
    assert environment["MONAI_INPUTPATH"] == environment["CLARA_PAYLOADPATH"] == str(payload / "input")
    assert environment["MONAI_WORKDIR"] == environment["HOME"] == seen["cwd"]
    assert environment["TMPDIR"].startswith(seen["cwd"])
    assert Path(environment["MONAI_OUTPUTPATH"]).parent == Path(seen["cwd"]).parent
    assert not [name for name in seen["fds"] if "platform" in name], "no database is open in the operator"
    allowed = {"PATH", "LANG", "HOME", "TMPDIR", "PYTHONUNBUFFERED", "X", "LC_CTYPE"}
    assert {name for name in environment if not name.startswith(("MONAI_", "CLARA_"))} <= allowed


def test_an_operator_reads_what_an_earlier_one_made(platform: RunningPlatform) -> None:
    write = ["sh", "-c", "echo made > $MONAI_OUTPUTPATH/f"]
    read = ["sh", "-c", "cat {input}/f {payload}/../operators/first/f"]
    operators = [{"name": "first", "command": write}, {"name": "second", "command": read, "input": "first"}]
    job_id = started_job(platform, f"operators: {json.dumps(operators)}\n")
    for name in ("first", "second"):
        assert platform.service.runner.run_operator(job_id, name, never).completed
    assert list(platform.client.read_logs(job_id, "second")) == [("second", "made")] * 2


def test_a_failed_operator_faults_its_job_with_the_end_of_its_standard_error(platform: RunningPlatform) -> None:
    code = "import sys; print('on stdout'); [print('line', n, file=sys.stderr) for n in range(30)]; sys.exit(3)"
    job_id = started_job(platform, python(code) + "register-results: [{agent: A, from: op}]\n")
    outcome = run(platform, job_id)
    assert (outcome.completed, outcome.message) == (False, "operator op ended with exit code 3")
    assert platform.service.runner.finish(job_id, JobStatus.FAULTED, outcome.message) == 0
    job = platform.client.job_status(job_id)
    assert (job.state, job.status) == (JobState.STOPPED, JobStatus.FAULTED)
    assert job.messages[0].startswith("operator op ended with exit code 3:\nline 20\n")
    assert job.messages[0].endswith("line 29")
    assert [operator.status for operator in job.operators] == [OperatorStatus.FAULTED]
    assert len(list(platform.client.read_logs(job_id))) == 31
    assert platform.client.payload_files(job.payload_id) == []
    assert work_is_cleared(platform)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["there-is-no-such-command"], 127, "there is no such command"),
        (["/etc/passwd"], 126, "Permission denied"),
        (["sh", "-c", "kill -SEGV $$"], 128 + signal.SIGSEGV, ""),
    ],
)
def test_commands_that_cannot_run_are_told_as_a_shell_would(
    platform: RunningPlatform, command: list[str], code: int, words: str
) -> None:
    job_id = started_job(platform, f"operators: {json.dumps([{'name': 'op', 'command': command}])}\n")
    outcome = run(platform, job_id)
    assert outcome.message == f"operator op ended with exit code {code}"
    platform.service.runner.finish(job_id, JobStatus.FAULTED, outcome.message)
    assert words in platform.client.job_status(job_id).messages[0]


FAMILY = """
import os, subprocess, sys, time
kin = [os.getpid()]
kin.append(subprocess.Popen(["sleep", "600"]).pid)
kin.append(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
double = subprocess.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True)
kin.append(int(double.stdout))
open({file!r}, "w").write(" ".join(map(str, kin)) + "\\n")
{then}
"""


@pytest.mark.parametrize("how", ["stopped", "time limit", "by itself"])
def test_no_process_of_an_operator_outlives_it(platform: RunningPlatform, tmp_path: Path, how: str) -> None:
    """Children, those in sessions of their own, and orphans; checked by process id."""
    file = tmp_path / "kin"
    code = FAMILY.format(file=str(file), then="time.sleep(0)" if how == "by itself" else "time.sleep(600)")
    job_id = started_job(platform, python(code, timeLimit=3 if how == "time limit" else 600))
    outcome = run(platform, job_id, lambda: how == "stopped" and file.exists() and file.read_text().endswith("\n"))
    assert outcome.stopped == (how == "stopped")
    assert outcome.completed == (how == "by itself")
    if how == "time limit":
        assert outcome.message == "operator op exceeded its time limit of 3 s"
    kin = [int(pid) for pid in file.read_text().split()]
    assert len(kin) == 4
    assert [pid for pid in kin if alive(pid)] == []


def test_a_killed_guardian_takes_the_operator_with_it(platform: RunningPlatform, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    note = "str(os.getppid()) + ' ' + str(os.getpid()) + chr(10)"
    job_id = started_job(platform, python(f"import os, time; open({str(file)!r}, 'w').write({note}); time.sleep(600)"))
    killed: list[int] = []

    def kill_the_guardian() -> bool:
        if not killed and file.exists() and file.read_text().endswith("\n"):
            killed.extend(int(pid) for pid in file.read_text().split())
            os.kill(killed[0], signal.SIGKILL)
        return False

    outcome = run(platform, job_id, kill_the_guardian)
    assert not outcome.completed
    assert not alive(killed[1])


RUNNER = """
import asyncio, sys
from pathlib import Path
from clara_dicom_adapter.clara.embedded.service import PlatformService
service = PlatformService(Path(sys.argv[1]), Path(sys.argv[2]))
service.runner.run_operator(sys.argv[3], "op", lambda: False)
"""


def test_operators_die_with_a_platform_that_is_killed_and_are_run_again(
    start_platform: Callable[..., RunningPlatform], tmp_path: Path
) -> None:
    platform = start_platform()
    file = tmp_path / "kin"
    then = f"os.path.exists({str(tmp_path / 'again')!r}) or time.sleep(600); print('got through')"
    code = "import os; open(os.environ['MONAI_OUTPUTPATH'] + '/' + str(os.getpid()), 'w')\n"
    job_id = started_job(platform, python(code + FAMILY.format(file=str(file), then=then)))
    platform.stop()
    folders = (str(platform.folder / "platform"), str(platform.pipelines))
    process = subprocess.Popen([sys.executable, "-c", RUNNER, *folders, job_id])
    try:
        kin = [int(pid) for pid in await_file(file).split()]
        assert all(alive(pid) for pid in kin)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in kin) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert [pid for pid in kin if alive(pid)] == []

    (tmp_path / "again").touch()
    again = start_platform()
    assert run(again, job_id).completed
    job = again.client.job_status(job_id)
    assert len(again.client.payload_files(job.payload_id)) == 1, "nothing of the killed attempt is in the output"
    assert work_is_cleared(again)


def test_the_log_can_be_read_while_the_operator_runs(platform: RunningPlatform, tmp_path: Path) -> None:
    stop = threading.Event()
    job_id = started_job(platform, python("import time; print('first'); time.sleep(600)"))
    thread = threading.Thread(target=run, args=(platform, job_id, stop.is_set))
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not (lines := list(platform.client.read_logs(job_id))) and time.monotonic() < deadline:
            stop.wait(0.02)
        assert lines == [("op", "first")]
        job = platform.client.job_status(job_id)
        assert [operator.status for operator in job.operators] == [OperatorStatus.RUNNING]
    finally:
        stop.set()
        thread.join(20)


def test_a_long_log_comes_in_portions_and_whole(platform: RunningPlatform) -> None:
    job_id = started_job(platform, python("[print('x' * 99) for _ in range(60_000)]; print('y' * 200_000)"))
    assert run(platform, job_id).completed
    lines = [line for _, line in platform.client.read_logs(job_id)]
    assert sum(len(line) for line in lines) == 60_000 * 99 + 200_000


def test_links_in_an_output_are_not_published(platform: RunningPlatform) -> None:
    code = (
        "import os; o = os.environ['MONAI_OUTPUTPATH']; os.symlink('/etc/passwd', o + '/l'); os.mkfifo(o + '/p'); "
        "os.symlink('/etc', o + '/d'); os.mkdir(o + '/real'); open(o + '/real/f', 'w').write('x')"
    )
    job_id = started_job(platform, python(code))
    assert run(platform, job_id).completed
    payload = platform.client.job_status(job_id).payload_id
    assert [file.name for file in platform.client.payload_files(payload)] == ["operators/op/real/f"]
    folder = platform.folder / "platform" / "payloads" / payload / "operators" / "op"
    assert sorted(path.name for path in folder.iterdir()) == ["real"]


def test_only_matching_files_are_registered_and_none_is_told(platform: RunningPlatform) -> None:
    code = "import os; o = os.environ['MONAI_OUTPUTPATH']; [open(o + '/' + n, 'w') for n in ('a.dcm', 'b.png')]"
    registrations = (
        "register-results:\n  - {agent: A, from: op, files: '*.dcm'}\n  - {agent: B, from: op, files: '*.x'}\n"
    )
    job_id = started_job(platform, python(code) + registrations)
    assert run(platform, job_id).completed
    assert platform.service.runner.finish(job_id, JobStatus.HEALTHY, "") == 1
    with ResultsServiceClient(platform.service.results_endpoint) as results:
        (task,) = results.pending("A")
        assert results.pending("B") == []
    assert (task.uris, task.parameters) == (("operators/op/a.dcm",), "")
    assert platform.client.job_status(job_id).messages == ("operator op made nothing to register for B",)


def test_payloads_are_removed_when_their_time_is_over(start_platform: Callable[..., RunningPlatform]) -> None:
    platform = start_platform(payload_retention_hours=1e-9)
    (platform.pipelines / "copy.yaml").write_text(COPY)
    job_id = started_job(platform, python("import os; open(os.environ['MONAI_OUTPUTPATH'] + '/f', 'w')") +
                         "register-results: [{agent: A, from: op}]\n")  # fmt: skip
    payload = platform.folder / "platform" / "payloads" / platform.client.job_status(job_id).payload_id
    pending, _ = platform.client.create_job(platform.client.resolve_pipeline("copy"), "p", JobPriority.NORMAL, {})
    assert run(platform, job_id).completed
    platform.service.clear_up()
    assert payload.exists(), "the job runs"
    platform.service.runner.finish(job_id, JobStatus.HEALTHY, "")
    platform.service.clear_up()
    assert payload.exists(), "its task waits"
    base = platform.service.results_endpoint
    (task,) = httpx.get(f"{base}/api/tasks/A/pending", trust_env=False).json()
    httpx.put(f"{base}/api/tasks/success/{task['taskId']}", trust_env=False)
    platform.service.clear_up()
    assert not payload.exists()
    assert platform.client.job_status(job_id).status is JobStatus.HEALTHY, "the job is still known"
    assert platform.client.job_status(pending).state is JobState.PENDING
