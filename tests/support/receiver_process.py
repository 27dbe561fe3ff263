"""A receiver in a process of its own: ``receiver_process.py SPOOL [TEMPORAL ADDRESS]``; prints its port."""

import asyncio
import sys
import threading
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clara_dicom_adapter import log as logging_setup
from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.receiver.service import ReceiverService
from clara_dicom_adapter.spool import Arrivals, Spool, SpoolRole
from support.receiving import LOOPBACK, SECRET, Configured, InThisProcess, Recorded


async def connect() -> Client:
    if len(sys.argv) < 3:
        await asyncio.sleep(0)
        raise TemporalUnavailable("not in this test")
    return await Client.connect(sys.argv[2], data_converter=pydantic_data_converter)


def main() -> None:
    logging_setup.configure(
        logging_setup.LogSetup(json=True), part="receiver"
    )  # on standard error, so that the port stands alone
    spool = Spool.open(Path(sys.argv[1]), SpoolRole.RECEIVER)
    service = ReceiverService(
        InThisProcess(ScpSettings(port=0, host=(LOOPBACK,)), Arrivals(spool.root)),
        StorageSettings(watermark_percent=100, reserve_space_gb=0, prepared_space_mb=0),
        spool,
        configuration=Configured(),
        associations=Recorded(),
        site_secret=lambda: SECRET,
        connect=connect,
    )
    service.start()
    print(service.port, flush=True)  # noqa: T201
    threading.Event().wait()


if __name__ == "__main__":
    main()
