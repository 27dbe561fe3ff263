"""Checks of this machine: ports, and the disk of the spool."""

import errno
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from clara_dicom_adapter.cli.checkup.finding import Finding, Level
from clara_dicom_adapter.cli.output import size
from clara_dicom_adapter.configuration.settings import Settings, StorageSettings
from clara_dicom_adapter.spool.space import StorageSpace
from clara_dicom_adapter.temporal.ports import bind, host_and_port

_FLUSHES: Final = 20
_SLOW_FLUSH_SECONDS: Final = 0.02
"""Beyond this a sender that waits for each answer stores fewer than 50 instances a second."""
_PRIVILEGED: Final = 1024


def ports(settings: Settings, addresses: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the ports can be had.

    Args:
        addresses: Where the running adapter's parts listen, by service.
    """
    services = settings.services
    scp = settings.dicom.scp
    wanted: list[tuple[str, Sequence[str], int, str]] = [("api", (settings.api.host,), settings.api.port, "api>port")]
    if scp.tls.enabled:
        wanted.insert(0, ("dicom_tls", scp.host, scp.tls.port, "dicom>scp>tls>port"))
    if scp.plain:
        wanted.insert(0, ("dicom", scp.host, scp.port, "dicom>scp>port"))
    if services.temporal.address is None:
        wanted.append(("temporal", ("127.0.0.1",), services.temporal.embedded_port, "services>temporal>embeddedPort"))
    if services.platform.endpoint is None:
        host, port = (services.platform.embedded_host,), services.platform.embedded_port
        wanted.append(("platform", host, port, "services>platform>embeddedPort"))
    for service, hosts, port, setting in wanted:
        yield _port(service, hosts, port, setting, addresses.get(service, ""))


def _port(service: str, hosts: Sequence[str], port: int, setting: str, listens_on: str) -> Finding:
    about = f"port of {service}"
    if listens_on:
        return Finding(about, Level.OK, f"the adapter listens on {listens_on}")
    if not port:
        return Finding(about, Level.OK, "any free one is taken")
    try:
        for each in bind(hosts, port):
            each.close()
    except OSError as error:
        where = str(error.filename or host_and_port(hosts[0], port))
        if error.errno in {errno.EACCES, errno.EPERM} and port < _PRIVILEGED:
            remedy = (
                f"`sysctl net.ipv4.ip_unprivileged_port_start={port}`, or give Python the right with "
                f"`setcap cap_net_bind_service=+ep`, or set {setting} to a port from {_PRIVILEGED} on, such as 11112"
            )
            return Finding(about, Level.PROBLEM, f"{where} is for privileged processes", remedy)
        if error.errno == errno.EADDRINUSE:
            remedy = f"end what listens there (`ss -ltnp 'sport = :{port}'` shows it), or set {setting} to another port"
            return Finding(about, Level.PROBLEM, f"{where} is taken by another process", remedy)
        remedy = "name an address of this machine, see `ip address`"
        return Finding(about, Level.PROBLEM, f"{where} cannot be had: {error.strerror}", remedy)
    return Finding(about, Level.OK, f"{', '.join(host_and_port(host, port) for host in hosts)} is free")


def disk(folder: Path, settings: StorageSettings) -> Iterator[Finding]:
    """Whether there is room for instances, and how long a flush takes."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        space = StorageSpace(there, settings).measure()
    except OSError as error:
        yield Finding("disk", Level.PROBLEM, f"{there} does not answer: {error.strerror}", "check the mount")
        return
    free, total, reserved = map(size, (space.free_bytes, space.total_bytes, space.reserved_bytes))
    told = f"{free} of {total} free at {there}, {reserved} must stay free"
    remedy = "make room, or change storage>watermarkPercent or storage>reserveSpaceGB"
    yield Finding("disk", Level.OK, told) if space.available else Finding("disk", Level.PROBLEM, told, remedy)
    try:
        seconds = _flush_seconds(there)
    except OSError as error:
        remedy = f"let the user who runs the adapter write there: `chown $(id -un) {there}`"
        yield Finding("flush", Level.PROBLEM, f"{there} cannot be written: {error.strerror}", remedy)
        return
    told = f"{seconds * 1000:.1f} ms to flush a file at {there}"
    if seconds <= _SLOW_FLUSH_SECONDS:
        yield Finding("flush", Level.OK, told)
        return
    remedy = (
        "put storage>temporary on an SSD or a disk with a protected write cache; where senders keep their copies, "
        'storage>durability "os" gives up flushing'
    )
    yield Finding("flush", Level.WARNING, told, remedy)


def _flush_seconds(folder: Path) -> float:
    """Median time to write 4 KiB and flush them; what is written is gone afterwards."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FLUSHES):
            started = time.monotonic()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.monotonic() - started)
    return statistics.median(taken)
