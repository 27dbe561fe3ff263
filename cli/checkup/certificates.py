"""Checks of the certificates that senders are shown, and checked with."""

from collections.abc import Iterator

from clara_dicom_adapter.cli.checkup.finding import Finding, Level
from clara_dicom_adapter.configuration.certificates import in_words, load
from clara_dicom_adapter.configuration.settings import ScpTlsSettings


def of_scp(settings: ScpTlsSettings) -> Iterator[Finding]:
    """Whether the SCP can speak TLS, and for how long; nothing when it is not to."""
    if not settings.enabled:
        return
    found = load(settings)
    told = {problem.key for problem in found.problems}
    for problem in found.problems:
        yield Finding(_about(problem.key), Level.PROBLEM, problem.text, problem.remedy)
    for problem in found.expiring():
        if problem.key not in told:
            yield Finding(_about(problem.key), Level.WARNING, problem.text, problem.remedy)
            told.add(problem.key)
    for key, file, at in found.expiries:
        if key not in told:
            yield Finding(_about(key), Level.OK, f"{file} is valid until {in_words(at)}")


def _about(key: str) -> str:
    return f"dicom>scp>tls>{key}"
