"""Which secrets of a DICOMweb destination would be readable on the network: those that go over plain HTTP."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from clara_dicom_adapter.configuration.entities import WebDestination

_SAID: Final = {"basic": "the password", "bearer": "the token", "oauth2": "the token"}


def warning(destination: WebDestination) -> str:
    """What goes out unencrypted and where to; empty when nothing does."""
    grant = destination.authentication
    if grant is None:
        return ""
    ways = [("the client secret", grant.token_url)] if grant.kind == "oauth2" and grant.token_url else []
    ways.append((_SAID[grant.kind], destination.url))
    found = [f"{secret} to {url}" for secret, url in ways if _is_readable(url)]
    return f"{' and '.join(found)} can be read on the network: it is not https" if found else ""


def _is_readable(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True
