"""What the receiver takes at most: ``limit.py PORT FOLDER``. No sender of files can be faster; this one reads none.

Every message lies in memory, in PDUs of full length, before it says ``ready``. It begins at a line on standard input,
and says what it did as a line of JSON.
"""

import gc
import sys
from pathlib import Path

from receivers.sender import LONGEST_PDU, Association, read_instance, store_message

from senders.clock import measured


def main() -> None:
    port, instances = int(sys.argv[1]), [read_instance(path) for path in sorted(Path(sys.argv[2]).iterdir())]
    context = instances[0].sop_class_uid, instances[0].transfer_syntax_uid
    messages = [store_message(instance, number, LONGEST_PDU) for number, instance in enumerate(instances, 1)]
    instances.clear()

    def send() -> int:
        association = Association(port, *context)
        if association.longest_pdu != LONGEST_PDU:
            raise SystemExit(f"the receiver takes PDUs of {association.longest_pdu} bytes only")
        for number, message in enumerate(messages, 1):
            association.store(number, message)
        association.release()
        return len(messages)

    gc.collect()
    gc.freeze()
    measured(send)


if __name__ == "__main__":
    main()
