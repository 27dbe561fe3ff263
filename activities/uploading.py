"""Several files at once into a payload."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.dicom.uids import is_usable
from clara_dicom_adapter.spool import SpooledInstance

HEARTBEAT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file, and what it is called in the payload."""

    path: Path
    name: str
    bytes: int

    @classmethod
    def of(cls, instance: SpooledInstance) -> "Transfer":
        """``dcm/<study>/<series>/<sop>.dcm``, of checked UIDs only (DESIGN 7)."""
        study, series = (
            uid if is_usable(uid) else "unknown" for uid in (instance.study_instance_uid, instance.series_instance_uid)
        )
        return cls(instance.path, f"dcm/{study}/{series}/{instance.sop_instance_uid}.dcm", instance.path.stat().st_size)


def upload_all(
    platform: PlatformClient,
    payload_id: str,
    transfers: Sequence[Transfer],
    *,
    parallel: int,
    heartbeat: Callable[[dict[str, int]], None],
) -> int:
    """Upload with up to ``parallel`` at once; the first failure ends it, what has arrived stays.

    Args:
        heartbeat: Called every few seconds with how far it has come; raises when the upload shall stop.

    Returns:
        Bytes uploaded.
    """
    done = 0
    with ThreadPoolExecutor(parallel, thread_name_prefix="upload") as pool:
        running = {pool.submit(platform.upload, payload_id, each.name, each.path) for each in transfers}
        total = len(running)
        try:
            while running:
                finished, running = wait(running, timeout=HEARTBEAT_SECONDS, return_when=FIRST_COMPLETED)
                done += sum(each.result() for each in finished)
                heartbeat({"uploaded": total - len(running), "of": total, "bytes": done})
        except BaseException:
            for each in running:
                each.cancel()
            raise
    return done
