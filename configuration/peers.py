"""From a configured destination to the peer that is spoken with."""

from clara_dicom_adapter.configuration.entities import Destination, DestinationTls
from clara_dicom_adapter.dicom.connecting import Peer
from clara_dicom_adapter.dicom.tls import TlsClient


def peer_of(destination: Destination) -> Peer:
    """Where a destination listens, and how it is spoken with."""
    return Peer(destination.ae_title, destination.host_ip, destination.port, tls_client(destination.tls))


def tls_client(configured: DestinationTls | None) -> TlsClient | None:
    """How TLS is spoken; None: not at all."""
    if configured is None:
        return None
    return TlsClient(configured.ca_file, configured.certificate_file, configured.key_file, configured.server_name)
