"""Checks of what the adapter works with: database, Temporal, the platform, its Results Service, and destinations."""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from clara_dicom_adapter.api.authentication import policy
from clara_dicom_adapter.cli.checkup.finding import Finding, Level
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.configuration import in_the_clear
from clara_dicom_adapter.configuration.api_keys import ApiKeys
from clara_dicom_adapter.configuration.entities import Destination
from clara_dicom_adapter.configuration.peers import peer_of
from clara_dicom_adapter.configuration.settings import Settings
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.configuration.web_destinations import WebDestinations
from clara_dicom_adapter.dicom.echo import echo
from clara_dicom_adapter.dicom.requestor import TimeLimits
from clara_dicom_adapter.errors import AdapterError

SECONDS: Final = 5.0
"""For each answer."""
_AT_ONCE: Final = 16


def database(place: Place) -> Iterator[Finding]:
    """Whether the configuration can be read, who is in it, and how the API is protected."""
    if not place.data.root.is_dir():
        yield Finding("database", Level.OK, f"none yet: {place.data.root} is made at the first start")
        return
    settings = place.settings
    try:
        with place.database() as engine:
            store = ConfigurationStore(engine)
            counts = len(store.clara_ae_titles()), len(store.sources())
            destinations = store.destinations()
            web_destinations = WebDestinations(engine).all()
            warnings = policy(settings.api, ApiKeys(engine)).warnings
    except AdapterError as error:
        remedy = "check ConnectionStrings>DicomAdapterDatabase, and that the database runs and this user may use it"
        yield Finding("database", Level.PROBLEM, str(error), remedy)
        return
    told = f"{counts[0]} AE titles, {counts[1]} sources, {len(destinations)} destinations"
    yield Finding("database", Level.OK, told)
    if not counts[0]:
        remedy = "`clara dicom create aetitle -a AET pipeline-NAME=ID`"
        yield Finding("AE titles", Level.WARNING, "there are none, so every association is rejected", remedy)
    if not counts[1] and settings.dicom.scp.reject_unknown_sources:
        remedy = "`clara dicom create src -a AET -i HOST`, or dicom>scp>rejectUnknownSources false"
        yield Finding("sources", Level.WARNING, "there are none, so every association is rejected", remedy)
    for warning in warnings:
        yield Finding("REST API", Level.WARNING, warning, "see docs/api.md, who may do what")
    for each in web_destinations:
        if warning := in_the_clear.warning(each):
            remedy = f"`clara dicom delete dicomweb -n {each.name}`, and create it with addresses of https"
            yield Finding(f"destination {each.name}", Level.WARNING, warning, remedy)
    yield from _destinations(destinations, settings)


def _destinations(destinations: list[Destination], settings: Settings) -> Iterator[Finding]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda each: _destination(each, settings.dicom.scu.ae_title), destinations)


def _destination(destination: Destination, calling_ae_title: str) -> Finding:
    found = echo(
        calling_ae_title, peer_of(destination), TimeLimits(connect=SECONDS, association=SECONDS, response=SECONDS)
    )
    about = f"destination {destination.name}"
    if found.answered:
        return Finding(about, Level.OK, found.message)
    remedy = f"`clara dicom update dest -n {destination.name}` changes it; what it cannot be sent now is sent later"
    return Finding(about, Level.WARNING, found.message, remedy)


def temporal(settings: Settings, addresses: Mapping[str, str]) -> Finding:
    """Whether Temporal answers, or could be started."""
    from clara_dicom_adapter.temporal import client
    from clara_dicom_adapter.temporal.finding import find

    configured = settings.services.temporal
    address = configured.address or addresses.get("temporal")
    try:
        if address is None:
            return Finding("Temporal", Level.OK, f"not running; {find()} will be started")
        asyncio.run(client.connect(configured, address, patience_seconds=SECONDS))
    except AdapterError as error:
        remedy = "check services>temporal, or leave its address out: then the adapter starts a server of its own"
        return Finding("Temporal", Level.PROBLEM, str(error), remedy)
    return Finding("Temporal", Level.OK, f"answers at {address}, namespace {configured.namespace}")


def platform(settings: Settings, addresses: Mapping[str, str]) -> Finding:
    """Whether the platform answers, and its pipelines."""
    from clara_dicom_adapter.clara.platform import PlatformClient

    address = settings.services.platform.endpoint or addresses.get("platform")
    if address is None:
        return Finding("platform", Level.OK, "not running; the embedded one will be started")
    try:
        with PlatformClient(address, SECONDS) as client:
            pipelines = client.list_pipelines()
    except AdapterError as error:
        remedy = "check services>platform>endpoint; groups wait until it answers, nothing is lost"
        return Finding("platform", Level.PROBLEM, str(error), remedy)
    return Finding("platform", Level.OK, f"answers at {address} with {len(pipelines)} pipelines")


def results_service(settings: Settings, addresses: Mapping[str, str]) -> Finding:
    """Whether the Results Service answers."""
    from clara_dicom_adapter.clara.results import ResultsServiceClient

    address = settings.services.results_service_endpoint or addresses.get("results_service")
    if address is None:
        return Finding("Results Service", Level.OK, "not running; the embedded one will be started")
    try:
        with ResultsServiceClient(address, SECONDS) as client:
            client.pending(settings.dicom.scu.ae_title, 1)  # asking takes nothing
    except AdapterError as error:
        remedy = "check services>resultsServiceEndpoint; nothing is exported until it answers"
        return Finding("Results Service", Level.PROBLEM, str(error), remedy)
    return Finding("Results Service", Level.OK, f"answers at {address}")
