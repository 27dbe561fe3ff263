"""Stock pynetdicom writing raw bytes, at its best: ``stock_pynetdicom.py PORT FOLDER``.

Data sets go to disk in chunks without being decoded, and get their name by a rename; no log handlers, PDUs of 128 KiB,
TCP_NODELAY, and any storage SOP class without a list of contexts to copy for each association.
"""

import socket
import sys
from pathlib import Path
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.events import Event

_config.STORE_RECV_CHUNKED_DATASET = True
_config.UNRESTRICTED_STORAGE_SERVICE = True
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False


def without_delay(event: Event) -> None:
    """Responses leave at once."""
    association_socket = event.assoc.dul.socket
    assert association_socket is not None
    assert association_socket.socket is not None
    association_socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    folder = Path(sys.argv[2])

    def store(event: Event) -> int:
        # pynetdicom has written a part-10 file; it would delete it after the response
        request: Any = event.request
        event.dataset_path.rename(folder / f"{request.AffectedSOPInstanceUID}.dcm")
        return 0

    ae = AE("BENCH")
    ae.maximum_pdu_size = 131072
    ae.maximum_associations = 64
    ae.add_supported_context("1.2.840.10008.1.1")
    handlers: list[Any] = [(evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, without_delay)]
    ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=handlers)


if __name__ == "__main__":
    main()
