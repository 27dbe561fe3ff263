"""All checks, in the order in which a person would look."""

from collections.abc import Iterator

from clara_dicom_adapter.cli.checkup import certificates, machine, services
from clara_dicom_adapter.cli.checkup.finding import Finding, Level
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.errors import ConfigurationInvalid


def check_up(place: Place) -> Iterator[Finding]:
    """Look at everything; settings that cannot work are told alone, because the rest would be about others."""
    where = place.config or "defaults, appsettings.json in the data folder, and variables"
    try:
        settings = place.settings
    except ConfigurationInvalid as error:
        for problem in error.problems:
            yield Finding("settings", Level.PROBLEM, problem, "correct it and try again")
        return
    yield Finding("settings", Level.OK, f"from {where}")
    addresses = place.addresses
    yield from machine.ports(settings, addresses)
    yield from certificates.of_scp(settings.dicom.scp.tls)
    yield from machine.disk(place.spool, settings.storage)
    yield services.temporal(settings, addresses)
    yield services.platform(settings, addresses)
    yield services.results_service(settings, addresses)
    yield from services.database(place)
