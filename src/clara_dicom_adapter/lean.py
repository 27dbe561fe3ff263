"""Libraries that some processes do without: pydicom and structlog load them when they are installed."""

import sys
from typing import Any, Final, cast

UNNEEDED: Final = ("numpy", "PIL", "rich")
"""Pixels and colours. A process that decodes and paints nothing saves some 30 MB."""


def leave_out_unneeded() -> None:
    """Count those that are not loaded yet as not installed in this process; before pydicom is imported."""
    for name in UNNEEDED:
        cast("dict[str, Any]", sys.modules).setdefault(name, None)
