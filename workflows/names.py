"""Workflow ids: readable, unique, and without anything that is a patient's.

AE titles are configuration and may stand in an id; values of attributes only as keyed hashes.
"""

import hashlib
import re
from datetime import datetime
from typing import Final

from clara_dicom_adapter.workflows.models import Owner


def slug(ae_title: str) -> str:
    """An AE title as it may stand in a workflow id: letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", ae_title).strip("-") or "ae"


def association_reception(ae_title: str, association_id: str) -> str:
    """Workflow id of the group of one association (``timeout`` 0)."""
    return f"receive-{slug(ae_title)}-{association_id}"


def window_reception(ae_title: str, group_key: str) -> str:
    """Workflow id of a window.

    Args:
        group_key: Keyed hash over AE title, grouping tag and value, the same on every node.
    """
    return f"receive-{slug(ae_title)}-{group_key}"


def submission(ae_title: str, owner: Owner, at: datetime) -> str:
    """Workflow id of the submission of one closed group: the same on every attempt to start it.

    Args:
        at: When the ReceiveWorkflow's run started. Not when the group opened or closed: a workflow that is reset, whose
            workflow task is lost after its local activities, or that is restored with an older database, comes there
            once more at another time, and must come to the same submission.
    """
    digest = hashlib.sha256(f"{owner.workflow_id}|{owner.run_id}|{owner.group}".encode()).hexdigest()[:10]
    return f"submission-{slug(ae_title)}-{at:%Y%m%dT%H%M%S}-{digest}"


def export(agent: str, task_id: str) -> str:
    """Workflow id of the export of one Results Service task."""
    return f"export-{slug(agent)}-{slug(task_id)}"


JOB_FOLLOWER: Final = "job-follower"
"""Workflow id of the one who follows started jobs."""


def results_poller(agent: str) -> str:
    """Workflow id of the one poller of an agent."""
    return f"results-poller-{slug(agent)}"
