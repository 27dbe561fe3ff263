"""The receiver as a process: ``python -m clara_dicom_adapter.cli.parts.receiver_part``."""

from collections.abc import Sequence
from typing import NoReturn

from clara_dicom_adapter.lean import leave_out_unneeded


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the receiver alone."""
    leave_out_unneeded()
    from clara_dicom_adapter.cli.parts.entry import run_part
    from clara_dicom_adapter.cli.parts.receiver import serve

    run_part("receiver", serve, arguments)


if __name__ == "__main__":
    main()
