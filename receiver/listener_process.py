"""A listener as a process: ``python -m clara_dicom_adapter.receiver.listener_process SOCKET CHANNEL PLACES``.

pydicom and structlog load libraries of pixels and of colours when they are installed. A listener decodes and paints
nothing, and each of these costs megabytes in every process: so they count as not installed here, before anything
else is imported.
"""

import sys
from typing import Any, cast

_NOT_NEEDED = ("numpy", "PIL", "rich")


def main() -> None:
    """Serve until the receiver says to stop."""
    cast("dict[str, Any]", sys.modules).update(dict.fromkeys(_NOT_NEEDED))
    from clara_dicom_adapter.receiver.listener import serve  # noqa: PLC0415 - only now

    serve(*(int(argument) for argument in sys.argv[1:]))


if __name__ == "__main__":
    main()
