"""Names of the Temporal task queues.

Importable inside workflows: strings and nothing else.
"""

from typing import Final

SHARED: Final = "clara-dicom"
"""Workflows, and activities that any worker may run."""

PLATFORM: Final = "clara-platform"
"""Jobs of the embedded Clara Platform."""


def node(node_id: str) -> str:
    """The queue of activities that must see the spool of one node."""
    return f"{SHARED}-{node_id}"


def exports(node_id: str) -> str:
    """The queue of exports that send from one node; most of them wait, which must not keep other work waiting."""
    return f"{node(node_id)}-exports"
