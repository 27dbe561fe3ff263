"""A listener as a process: ``python -m clara_dicom_adapter.receiver.listener_process CHANNEL PLACES SOCKET...``."""

import sys

from clara_dicom_adapter.lean import leave_out_unneeded


def main() -> None:
    """Serve until the receiver says to stop."""
    leave_out_unneeded()
    from clara_dicom_adapter.receiver.listener import serve  # noqa: PLC0415 - only now

    serve(*(int(argument) for argument in sys.argv[1:]))


if __name__ == "__main__":
    main()
