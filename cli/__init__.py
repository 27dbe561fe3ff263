"""The command line: ``clara``, with the group ``dicom`` of the documents."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    # the application is imported here, because every part is started through this package as well
    from clara_dicom_adapter.cli.app import run
    from clara_dicom_adapter.cli.privacy import keep_private

    keep_private()
    status = run(sys.argv[1:] if arguments is None else arguments)
    if any(name in sys.modules for name in ("temporalio.client", "grpc")):  # native threads of theirs may be alive
        from clara_dicom_adapter.temporal.exit import leave

        leave(status)
    sys.exit(status)
