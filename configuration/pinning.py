"""What an association is pinned to when it begins, so that a change of its AE title does not reach it."""

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.workflows.models import InterruptedPolicy, PinnedAeTitle

DEFAULT_TIMEOUT_SECONDS = 5.0
"""Of AE titles that say nothing about it (0.8)."""
DEFAULT_GROUP_BY = "0020,000D"


def pinned(ae: ClaraAeTitle, scp: ScpSettings, storage: StorageSettings, revision: int = 0) -> PinnedAeTitle:
    """What an association that begins now is pinned to; settings were checked when they came in."""
    settings = {key.strip().lower(): value.strip() for key, value in ae.processor_settings.items()}
    maximum = settings.get(checks.MAXIMUM_WINDOW.lower())
    return PinnedAeTitle(
        ae_title=ae.ae_title,
        name=ae.name,
        revision=revision,
        processor=ae.processor,
        processor_settings=ae.processor_settings,
        timeout_seconds=float(settings.get("timeout") or DEFAULT_TIMEOUT_SECONDS),
        group_by=_group_by(settings.get("groupby") or DEFAULT_GROUP_BY),
        maximum_window_seconds=float(maximum) if maximum else None,
        overwrite_same_instance=ae.overwrite_same_instance,
        interrupted=InterruptedPolicy(ae.interrupted) if ae.interrupted else None,
        interrupted_hold_seconds=scp.interrupted_hold_seconds,
        quarantine_retention_seconds=storage.quarantine_retention_hours * 3600,
    )


def _group_by(text: str) -> str:
    """``GGGG,EEEE`` in capitals, however it was written, or ``none``."""
    if text.lower() == "none":
        return "none"
    digits = "".join(character for character in text if character.isalnum()).upper()
    return f"{digits[:4]},{digits[4:]}"
