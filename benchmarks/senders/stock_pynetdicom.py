"""Stock pynetdicom at its best, ``send_c_store`` of paths: ``stock_pynetdicom.py PORT FOLDER``.

TCP_NODELAY, no log handlers, PDUs of 128 KiB where the peer takes them.
It says ``ready``, begins at a line on standard input, and says what it did as a line of JSON. It ends with
:data:`RESPONSE_MISSED` when ``send_c_store`` has seen no response, as when the reactor of pynetdicom has taken it
(decision 0003), and with 1 when the peer has not stored something.
"""

import socket
import sys
from pathlib import Path
from typing import Any, Final

from pynetdicom import AE, _config, evt
from pynetdicom.events import Event

from clara_dicom_adapter.dicom.part10 import read_meta
from senders.clock import measured

RESPONSE_MISSED: Final = 3


def without_delay(event: Event) -> None:
    """The last segment of a message leaves at once."""
    association_socket = event.assoc.dul.socket
    assert association_socket is not None
    assert association_socket.socket is not None
    association_socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    port, folder = int(sys.argv[1]), Path(sys.argv[2])

    def send() -> int:
        files = sorted(folder.iterdir())
        ae = AE("BENCH")
        ae.maximum_pdu_size = 131072
        for context in dict.fromkeys((meta.sop_class_uid, meta.transfer_syntax_uid) for meta in map(read_meta, files)):
            ae.add_requested_context(*context)
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, without_delay)]
        association = ae.associate("127.0.0.1", port, ae_title="BENCH", evt_handlers=handlers)
        sent = 0
        for path in files:
            status = association.send_c_store(path).get("Status")
            if status is None:
                sys.exit(RESPONSE_MISSED)
            if status != 0x0000:
                raise SystemExit(f"{path.name} was not stored")
            sent += 1
        association.release()
        return sent

    measured(send)


if __name__ == "__main__":
    main()
