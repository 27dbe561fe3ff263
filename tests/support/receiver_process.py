"""A receiver in a process of its own: ``receiver_process.py SPOOL PREPARED_MB``; prints its port."""

import sys
import threading
from pathlib import Path

from clara_dicom_adapter import log as logging_setup
from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.receiver.service import ReceiverService
from clara_dicom_adapter.spool import Arrivals, Spool, SpoolRole
from support.receiving import LOOPBACK, SECRET, Configured, InThisProcess, Recorded, nobody


def main() -> None:
    logging_setup.configure(
        logging_setup.LogSetup(json=True), part="receiver"
    )  # on standard error, so that the port stands alone
    spool = Spool.open(Path(sys.argv[1]), SpoolRole.RECEIVER)
    service = ReceiverService(
        InThisProcess(ScpSettings(port=0, host=(LOOPBACK,)), Arrivals(spool.root)),
        StorageSettings(watermark_percent=100, reserve_space_gb=0, prepared_space_mb=int(sys.argv[2])),
        spool,
        configuration=Configured(),
        associations=Recorded(),
        site_secret=lambda: SECRET,
        connect=nobody,
    )
    service.start()
    print(service.port, flush=True)  # noqa: T201
    threading.Event().wait()


if __name__ == "__main__":
    main()
