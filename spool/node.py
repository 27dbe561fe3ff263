"""Whose spool this is: the node's id, the locks that keep two processes off it, and the site's key."""

import fcntl
import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from clara_dicom_adapter.errors import SpoolInUse, SpoolUnusable
from clara_dicom_adapter.spool.durable import write_file
from clara_dicom_adapter.spool.models import SpoolRole

FORMAT_VERSION: Final = 1
NODE: Final = "node.json"
SITE_KEY: Final = "site.key"


class NodeFacts(BaseModel):
    """``node.json``.

    Attributes:
        adopted: Ids of nodes whose spools were taken over; this node answers for them too.
        adopted_by: The node that has taken, or is taking, this spool over; it is served no more.
    """

    model_config = ConfigDict(frozen=True)

    format_version: int
    node_id: str
    created_at: datetime
    adopted: tuple[str, ...] = ()
    adopted_by: str | None = None


def read_node(root: Path) -> NodeFacts | None:
    """The node's facts, or None when nothing was ever spooled here; raises :class:`SpoolUnusable`."""
    try:
        node = NodeFacts.model_validate_json((root / NODE).read_bytes())
    except FileNotFoundError:
        if any((root / "associations").glob("*")):
            raise SpoolUnusable(f"{root / NODE} is missing, and there are associations: restore it first") from None
        return None
    except (ValidationError, OSError) as error:
        raise SpoolUnusable(f"{root / NODE} cannot be read: {type(error).__name__}") from error
    if node.format_version > FORMAT_VERSION:
        raise SpoolUnusable(
            f"{root} has format {node.format_version}, made by a newer version; this one reads up to {FORMAT_VERSION}"
        )
    return node


def write_node(root: Path, node: NodeFacts) -> None:
    """Always durable: losing a node's id loses its instances."""
    write_file(root / NODE, node.model_dump_json(indent=1).encode(), durable=True)


def find_or_make_node(root: Path) -> NodeFacts:
    """The node's facts, made at the very first start; two processes that start at once agree on them."""
    lock = FileLock(root / "node.lock")
    try:
        lock.take(wait=True)
        node = read_node(root)
        if node is None:
            node = NodeFacts(format_version=FORMAT_VERSION, node_id=uuid.uuid4().hex[:12], created_at=datetime.now(UTC))
            write_node(root, node)
        return node
    finally:
        lock.release()


def add_adopted(root: Path, node_ids: Sequence[str]) -> None:
    """Note that this node answers for others."""
    lock = FileLock(root / "node.lock")
    try:
        lock.take(wait=True)
        node = read_node(root)
        if node is None:
            raise SpoolUnusable(f"{root} holds no spool")
        adopted = tuple(dict.fromkeys((*node.adopted, *node_ids)))
        write_node(root, node.model_copy(update={"adopted": adopted}))
    finally:
        lock.release()


class FileLock:
    """A lock that ends with the process, however it ends (flock)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def take(self, *, shared: bool = False, wait: bool = False) -> bool:
        """Take it, or change how it is held; False when somebody else has it and nobody wants to wait."""
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(self._descriptor, how)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let go; safe to repeat."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_roles(root: Path, roles: Sequence[SpoolRole]) -> list[FileLock]:
    """The exclusive locks of some roles; raises :class:`SpoolInUse` and holds none when one is taken."""
    held: list[FileLock] = []
    for role in roles:
        lock = FileLock(root / f"{role.value}.lock")
        held.append(lock)
        if not lock.take():
            for each in held:
                each.release()
            raise SpoolInUse(f"{root} is served by another {role.value} process")
    return held
