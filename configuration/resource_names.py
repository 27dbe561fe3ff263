"""The name that an entity has as a Kubernetes resource, and in the JSON of 0.6 (``metadata.name``).

Clara AE titles and destinations have a name of their own. A source has none, so it gets one that is made of its AE
title and its host, in the characters that Kubernetes allows (RFC 1123, subdomain).
"""

import re

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source

_LONGEST = 253


def resource_name(entity: Entity) -> str:
    """The name of an entity as a resource."""
    match entity:
        case ClaraAeTitle() | Destination():
            return entity.name
        case Source():
            return source_name(entity.ae_title, entity.host_ip)
    raise TypeError(f"{type(entity).__name__} is no kind of resource")


def source_name(ae_title: str, host: str) -> str:
    """``orthanc-1.2.3.4``; what Kubernetes does not allow becomes a hyphen."""
    plain = re.sub(r"[^a-z0-9.-]+", "-", f"{ae_title}-{host}".lower())
    plain = re.sub(r"\.(?=[.-]|$)|(?<=[.-])\.", "-", plain)  # parts between dots begin and end with letter or digit
    return re.sub(r"-{2,}", "-", plain).strip("-.")[:_LONGEST].strip("-.")
