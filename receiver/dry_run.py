"""What would be done with a file that somebody sends to one of our AE titles: the rules of receiving, and nothing done.

It asks the very functions that decide on associations, addresses and jobs, so that it cannot say something else than
what happens. The API is given it by the command line, which is above both.
"""

import io
from collections.abc import Mapping, Sequence

from clara_dicom_adapter.activities import planning
from clara_dicom_adapter.activities.submission import PROCESSOR_NAME, SUBMISSION_KEY
from clara_dicom_adapter.clara import metadata
from clara_dicom_adapter.configuration import processors
from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.configuration.forecast import Explanation, GroupForecast, JobForecast, SourceVerdict
from clara_dicom_adapter.configuration.processors import GroupedInstance, InstanceGroup
from clara_dicom_adapter.configuration.settings import Settings
from clara_dicom_adapter.dicom.head import Head, read_head
from clara_dicom_adapter.dicom.part10 import FileMeta, read_meta_of
from clara_dicom_adapter.errors import InvalidInstance
from clara_dicom_adapter.receiver import acceptance, grouping
from clara_dicom_adapter.receiver.acceptance import AssociationRequest, KnownAeTitle, KnownApplicationEntities, Reject
from clara_dicom_adapter.receiver.contexts import Service
from clara_dicom_adapter.receiver.known import resolve_host
from clara_dicom_adapter.records.secret import SiteSecret
from clara_dicom_adapter.workflows.models import PinnedAeTitle

__all__ = ["DryRun"]

_REASONS: Mapping[acceptance.RejectReason, str] = {
    acceptance.RejectReason.CALLING_AE_TITLE_UNKNOWN: "no source has the AE title {calling}",
    acceptance.RejectReason.PEER_ADDRESS_UNKNOWN: "source {calling} is not configured with the address {peer}",
    acceptance.RejectReason.CALLING_AE_TITLE_NOT_ALLOWED: "allowedSources of {called} does not name {calling}",
}


class DryRun:
    """Judges files; thread-safe."""

    def __init__(self, settings: Settings, store: Configuration, secret: SiteSecret) -> None:
        self._settings = settings
        self._store = store
        self._secret = secret

    def explain(self, ae: ClaraAeTitle, head: bytes, calling_ae_title: str | None, host: str | None) -> Explanation:
        """What would be done with a file, of which this is the beginning.

        Args:
            calling_ae_title: Of the sender; None: whoever may send.
            host: Address or name of the sender; None: that of the configured source.
        """
        pinned = self._store.pinned(ae)
        source = self._source(ae, pinned, calling_ae_title, host) if calling_ae_title else None
        tags = (pinned.group_by,) if pinned.group_by != grouping.NO_GROUPING else ()
        sent = self._settings.services.platform
        values = sent.metadata_dicom_source if sent.upload_metadata else ()
        meta, found = _meta(head), read_head(head, (*tags, *values))
        ignored = meta is not None and meta.sop_class_uid in ae.ignored_sop_classes
        kept = meta is not None and not ignored and (source is None or source.accepted)
        jobs = self._jobs(ae, calling_ae_title or "", found, values) if kept else []
        group = self._group(pinned, found) if kept else None
        return Explanation(
            ae_title=ae.ae_title,
            source=source,
            readable=meta is not None and found.readable,
            sop_class_uid=meta.sop_class_uid if meta else "",
            transfer_syntax_uid=meta.transfer_syntax_uid if meta else "",
            ignored=ignored,
            group=group,
            processor=ae.processor,
            jobs=jobs,
            summary=_summary(ae, source, meta, group, jobs, ignored=ignored),
        )

    def _source(self, ae: ClaraAeTitle, pinned: PinnedAeTitle, calling: str, host: str | None) -> SourceVerdict:
        hosts = [source.host_ip for source in self._store.sources() if source.ae_title == calling]
        addresses = frozenset[str]().union(*map(_addresses, hosts))
        theirs = _addresses(host) if host else addresses
        peer = next(iter(sorted(theirs & addresses) or sorted(theirs)), "")
        known = KnownApplicationEntities(
            ae_titles={ae.ae_title: KnownAeTitle(ae, pinned)},
            sources={calling: addresses} if hosts else {},
        )
        policy = acceptance.Policy(reject_unknown_sources=self._settings.dicom.scp.reject_unknown_sources)
        request = AssociationRequest(calling, ae.ae_title, peer, frozenset({Service.STORAGE}))
        verdict = acceptance.verdict(request, known, policy, acceptance.Load())
        if not isinstance(verdict, Reject):
            return SourceVerdict(accepted=True, reason="", message=f"{calling} may send to {ae.ae_title}")
        words = _REASONS[verdict.reason].format(calling=calling, called=ae.ae_title, peer=peer)
        return SourceVerdict(accepted=False, reason=verdict.reason.word, message=words)

    def _group(self, pinned: PinnedAeTitle, head: Head) -> GroupForecast:
        if not grouping.is_windowed(pinned):
            return GroupForecast(by="association", timeout_seconds=0, has_value=False)
        value = "\\".join(head.values.get(pinned.group_by, ())) or None
        secret = bytes.fromhex(self._secret.get_or_create())
        everything = pinned.group_by == grouping.NO_GROUPING
        return GroupForecast(
            by="AE title" if everything else "attribute",
            attribute=None if everything else pinned.group_by,
            has_value=value is not None,
            timeout_seconds=pinned.timeout_seconds,
            workflow_id=grouping.workflow_id(pinned, "", value, secret),
        )

    def _jobs(self, ae: ClaraAeTitle, calling: str, head: Head, tags: Sequence[str]) -> list[JobForecast]:
        instance = GroupedInstance(
            node_id="",
            association_id="",
            sequence=1,
            received_at=0,
            sop_class_uid=head.sop_class_uid,
            sop_instance_uid=head.sop_instance_uid,
            study_instance_uid=head.study_instance_uid,
            series_instance_uid=head.series_instance_uid,
            bytes=0,
        )
        group = InstanceGroup(ae.ae_title, calling, incomplete=False, instances=[instance])
        processor = processors.find(ae.processor)(ae.processor_settings)
        planned = planning.plan(processor, group, overwrite_same_instance=ae.overwrite_same_instance)
        entries = {
            metadata.SOURCE: metadata.source(ae.ae_title, PROCESSOR_NAME),
            metadata.INSTANCES: "1",
            SUBMISSION_KEY: "the submission's marker",
        }
        for tag in tags:
            entries |= metadata.tag_entries(tag, head.values.get(tag, ()))
        return [
            JobForecast(name=job.key, pipeline=job.pipeline, priority=job.priority, metadata=entries)
            for job in planned.jobs
        ]


def _addresses(host: str) -> frozenset[str]:
    return resolve_host(host) or frozenset({acceptance.canonical_address(host)})


def _meta(head: bytes) -> FileMeta | None:
    try:
        return read_meta_of(io.BytesIO(head))
    except InvalidInstance:
        return None


def _summary(
    ae: ClaraAeTitle,
    source: SourceVerdict | None,
    meta: FileMeta | None,
    group: GroupForecast | None,
    jobs: list[JobForecast],
    *,
    ignored: bool,
) -> str:
    if meta is None:
        return "This is no DICOM file (PS3.10), so nobody can send it."
    if source is not None and not source.accepted:
        return f"The association would be rejected: {source.message}."
    if ignored:
        return f"It would be answered 0000 and not kept: {ae.ae_title} ignores its SOP class."
    if group is None or not jobs:
        return "It would be received, and its job processor would make no job of it."
    close = "when its association ends"
    if group.timeout_seconds:
        close = f"when nothing has come for {group.timeout_seconds:g} s"
    pipelines = ", ".join(sorted({job.pipeline for job in jobs}))
    return f"It would be received, and its group submitted to {pipelines} {close}."
