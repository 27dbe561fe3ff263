"""What our sender proposes when it asks for an association."""

import threading
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import (
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from support.dicom_objects import CT, EXPLICIT, make_objects

from clara_dicom_adapter.dicom.sender import Peer, SendSettings, TimeLimits, send


def test_nothing_but_length_and_implementation_is_proposed_beside_contexts(tmp_path: Path) -> None:
    """No asynchronous operations (seed 001), and no role or extension that a peer might stumble over."""
    proposed: list[object] = []
    asked = threading.Event()

    def note(event: Event) -> None:
        request = event.assoc.requestor.primitive
        proposed.extend(request.user_information if request else ())
        asked.set()

    ae = AE("SCP")
    ae.add_supported_context(CT, EXPLICIT)
    handlers = [(evt.EVT_REQUESTED, note), (evt.EVT_C_STORE, lambda _event: 0x0000)]
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    try:
        peer = Peer("SCP", "127.0.0.1", server.server_address[1])
        settings = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=5))
        totals = send(make_objects(tmp_path, 1), peer, settings, lambda _result: None)
    finally:
        server.shutdown()
    assert totals.sent == 1
    assert asked.is_set()
    assert {type(each) for each in proposed} == {
        MaximumLengthNotification,
        ImplementationClassUIDNotification,
        ImplementationVersionNameNotification,
    }
