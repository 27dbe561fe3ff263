"""Run by tests: stores two instances, and is killed at a chosen point of the second.

    python store_one.py SPOOL written|fdatasync|ftruncate|rename|fsync|committed|never [os]

A named call is killed before it does anything. Prepared files are used when the spool has some, and with ``os`` nothing
is flushed.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, facts

from clara_dicom_adapter.spool import Spool, SpoolRole

POINTS = {"fdatasync", "ftruncate", "rename", "fsync"}


def kill(*_arguments: object, **_names: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(root: Path, at: str, *, durable: bool) -> None:
    folder = Spool.open(root, SpoolRole.RECEIVER, durable=durable).begin_association(facts())
    for number in (1, 2):
        incoming = folder.begin_instance(
            sop_class_uid=CT, sop_instance_uid=f"{STUDY}.{number}", transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN
        )
        incoming.write(b"<" + b"x" * 50_000)
        incoming.write(b"x" * 50_000 + b">")
        if number == 2 and at == "written":
            kill()
        if number == 2 and at in POINTS:
            setattr(os, at, kill)
        incoming.commit()
        if number == 2 and at == "committed":
            kill()
        os.write(1, f"reply {number}\n".encode())
        incoming.name(lambda _: None)


main(Path(sys.argv[1]), sys.argv[2], durable="os" not in sys.argv[3:])
