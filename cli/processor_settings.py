"""Settings of a job processor as words of a command: ``pipeline-covid=ID timeout=5``."""

from collections.abc import Mapping, Sequence
from typing import Final

from clara_dicom_adapter.errors import ConfigurationInvalid

PROCESSOR_SETTINGS: Final = (
    "pipeline-NAME=ID, timeout=SECONDS, groupBy=GGGG,EEEE or none, priority=lower|normal|higher|immediate, "
    "jobRetryDelay=MILLISECONDS, maximumWindow=SECONDS."
)


def parsed(words: Sequence[str]) -> dict[str, str]:
    """Words as settings; raises ConfigurationInvalid."""
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (key, equals, _) in zip(words, pairs, strict=True) if not (key.strip() and equals)]
    if wrong:
        raise ConfigurationInvalid([f"'{word}' is not of the form KEY=VALUE." for word in wrong])
    keys = [key.strip().lower() for key, _, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigurationInvalid([f"'{key}' is given more than once." for key in twice])
    return {key.strip(): value.strip() for key, _, value in pairs}


def merged(present: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Settings with some of them changed; a value that is empty takes its setting away. Case does not matter."""
    changed = {key.lower() for key in changes}
    kept = {key: value for key, value in present.items() if key.strip().lower() not in changed}
    return kept | {key: value for key, value in changes.items() if value}
