"""How many file descriptors a listener may have: as many as the system allows, and whether that is enough."""

import resource
from contextlib import suppress
from typing import Final

import structlog

from clara_dicom_adapter.configuration.settings import ScpSettings

log = structlog.get_logger("clara_dicom_adapter.receiver")

_OF_ASSOCIATION: Final = 5
"""Its connection, what wakes its thread, its folder, its facts, and the file of an instance."""
_BESIDES: Final = 200
"""Connections that are not associations yet, instances without a name, sockets that listen, the log."""


def allow_all(scp: ScpSettings) -> None:
    """Raise this process's limit as far as it may itself; log when all associations could still be too many for it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # where it is not allowed, what there is has to do
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = scp.maximum_number_of_associations * _OF_ASSOCIATION + _BESIDES
    if most != resource.RLIM_INFINITY and most < wanted:
        log.warning(
            "few_file_descriptors",
            count=most,
            setting="maximumNumberOfAssociations",
            value=scp.maximum_number_of_associations,
            remedy=f"raise the hard limit (ulimit -Hn, LimitNOFILE of systemd) to {wanted}, or lower the setting",
        )
