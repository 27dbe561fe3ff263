"""From what is configured of a destination, and of us, to how it is sent to."""

from pathlib import Path

from clara_dicom_adapter.activities.export_sending import Route
from clara_dicom_adapter.configuration.entities import Destination, WebAuthentication, WebDestination
from clara_dicom_adapter.configuration.peers import peer_of, tls_client
from clara_dicom_adapter.configuration.settings import ScuSettings
from clara_dicom_adapter.dicom.dataset_log import DatasetLog
from clara_dicom_adapter.dicom.sender import Peer, SendSettings, TimeLimits, WireLog
from clara_dicom_adapter.dicom.stow_service import WebPeer
from clara_dicom_adapter.dicom.web_authentication import Authentication, Basic, Bearer, ClientCredentials


def route_to(destination: Destination | WebDestination, scu: ScuSettings) -> Route:
    """How a destination is sent to, by our settings."""
    return Route(
        key=destination.name.casefold(),
        peer=_peer_of(destination),
        settings=_settings(scu),
        associations=(
            destination.maximum_associations if isinstance(destination, Destination) else destination.maximum_requests
        ),
        time_limit=scu.export.time_limit_seconds,
    )


def _settings(scu: ScuSettings) -> SendSettings:
    """What the sender needs to know of our settings."""
    return SendSettings(
        calling_ae_title=scu.ae_title,
        limits=TimeLimits(
            connect=scu.connect_timeout_seconds,
            association=scu.association_timeout_seconds,
            response=scu.response_timeout_seconds,
        ),
        retries=scu.export.connect_retries,
        retry_delay=scu.export.connect_retry_delay_seconds,
        dataset_log=DatasetLog(scu.log_patient_attributes) if scu.log_dimse_datasets else None,
        warnings_are_failures=scu.export.warnings_are_failures,
        wire_log=WireLog(commands=scu.log_dimse_datasets, data_pdus=scu.log_data_pdus),
    )


def _peer_of(destination: Destination | WebDestination) -> Peer | WebPeer:
    """Where a destination listens, and how it is spoken with."""
    if isinstance(destination, Destination):
        return peer_of(destination)
    authentication = _authentication(destination.authentication)
    return WebPeer(destination.name, destination.url, authentication, tls_client(destination.tls))


def _authentication(configured: WebAuthentication | None) -> Authentication | None:
    match configured:
        case WebAuthentication(kind="basic", password_file=Path() as file):
            return Basic(configured.user, file)
        case WebAuthentication(kind="bearer", token_file=Path() as file):
            return Bearer(file)
        case WebAuthentication(kind="oauth2", token_url=str() as url, client_secret_file=Path() as file):
            tls = tls_client(configured.token_tls)
            return ClientCredentials(url, configured.client_id, file, configured.scope or "", tls)
    return None
