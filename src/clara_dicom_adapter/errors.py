"""Every error the adapter raises on purpose.

* AdapterError
  x TransientError              - trying again may help
    + AssociationFailed         - the peer was unreachable, rejected or aborted us
    + DatabaseUnavailable       - the SQL database did not answer, or is locked
    + KubernetesUnavailable     - the Kubernetes API server did not answer, or does not let us
    + PlatformUnreachable       - no answer from the Clara Platform
    + ResultsServiceUnreachable - no answer from the Results Service
    + ServiceUnreachable        - no adapter answers at the address that a command was given
    + SpoolUnavailable          - the spool's index is locked, or its disk fails, at the moment
    + StorageFull               - free space is below the reserve
    + TemporalUnavailable       - no Temporal server could be reached or started
  x PermanentError              - trying again cannot help; a person or a configuration change must act
    + AuthenticationUnusable    - a file with a secret of ours is missing, or a token server refuses us
    + ConfigurationInvalid      - settings or an entity are not acceptable; lists everything wrong
      + AlreadyExists           - an entity with that name or AE title is configured already
    + PipelineMissing           - an AE title has no pipeline yet, so that its group has to wait
    + NotFound                  - nothing is configured or recorded under that name
    + DestinationUnknown        - an export names a destination that is not configured
    + DownloadsLost             - this node does not have an export's objects (any more)
    + InstancesMissing          - a node's spool does not hold (any more) what a job is to be made of
    + InvalidInstance           - a file is not a SOP instance that can be handled
    + JobForgotten              - the Clara Platform no longer knows a job that it made
    + PlatformRefused           - the Clara Platform answered with an error code
    + ResultsServiceRefused     - the Results Service answered with an error
    + PresentationContextRefused - the peer accepted no context for a SOP class and transfer syntax
    + SpoolInUse                - another process serves this spool or data folder
    + SpoolUnusable             - the spool's format or contents cannot be served

Foreign errors (``grpc.RpcError``, ``httpx.HTTPError``, ``sqlite3.Error``) are translated by the client that met
them and chained with ``from``. No text here carries a patient attribute.
"""

from collections.abc import Sequence


class AdapterError(Exception):
    """Base of every error the adapter raises on purpose."""


class TransientError(AdapterError):
    """Trying again may help."""


class PermanentError(AdapterError):
    """Trying again cannot help; a person or a configuration change must act."""


class AssociationFailed(TransientError):
    """The peer AE was unreachable, or rejected or aborted the association.

    Attributes:
        broken_off: Whether the peer ended an association that had been established.
    """

    def __init__(self, called_ae_title: str, reason: str, *, broken_off: bool = False) -> None:
        super().__init__(f"no association with {called_ae_title}: {reason}")
        self.called_ae_title = called_ae_title
        self.reason = reason
        self.broken_off = broken_off


class DatabaseUnavailable(TransientError):
    """The SQL database did not answer, or stayed locked; without the driver's text, which may hold UIDs."""

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"the {database} database cannot be used: {reason}")
        self.database = database
        self.reason = reason


class KubernetesUnavailable(TransientError):
    """The Kubernetes API server did not answer, or refuses us what the chart's role allows."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"the Kubernetes API server at {address} cannot be used: {reason}")
        self.address = address
        self.reason = reason


class PlatformUnreachable(TransientError):
    """The Clara Platform gave no answer."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"Clara Platform at {endpoint} cannot be reached: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class ResultsServiceUnreachable(TransientError):
    """The Results Service gave no answer, or one that settles nothing: such as a 5xx."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"Results Service at {endpoint} cannot be reached: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class ServiceUnreachable(TransientError):
    """No adapter answers over REST where a command looks for it."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"no adapter answers at {url}: {reason}. Is it running there, and the address right? `clara dicom start` "
            f"starts one on this machine; without --url and CLARA_DICOM_URL commands work on its data folder"
        )
        self.url = url
        self.reason = reason


class SpoolUnavailable(TransientError):
    """The spool's index cannot be read or written at the moment."""


class StorageFull(TransientError):
    """Free space is below the watermark or the reserve."""

    def __init__(self, path: str, free_bytes: int, reserved_bytes: int) -> None:
        super().__init__(f"{path}: {free_bytes} bytes free, {reserved_bytes} must stay free")
        self.path = path
        self.free_bytes = free_bytes
        self.reserved_bytes = reserved_bytes


class TemporalUnavailable(TransientError):
    """No Temporal server could be reached or started; the text says what to do."""


class ConfigurationInvalid(PermanentError):
    """Settings or an entity are not acceptable.

    Attributes:
        problems: One readable line for everything that is wrong, never only the first.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class AlreadyExists(ConfigurationInvalid):
    """An entity with that name or AE title is configured already."""

    def __init__(self, message: str) -> None:
        super().__init__([message])


class NotFound(PermanentError):
    """Nothing is configured or recorded under that name."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"{kind} {key[:100]!r} does not exist")
        self.kind = kind
        self.key = key


class AuthenticationUnusable(PermanentError):
    """We cannot say who we are: a file with a secret cannot be read, or a token server gives no token."""


class PipelineMissing(PermanentError):
    """An AE title from an older file has no pipeline yet, so that its group has to wait."""

    def __init__(self, ae_title: str) -> None:
        super().__init__(f"AE title {ae_title} has no pipeline; its groups wait until it gets one")
        self.ae_title = ae_title


class DestinationUnknown(PermanentError):
    """An export names a destination that is not configured."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"destination {name!r} is not configured; known destinations: {', '.join(known) or 'none'}")
        self.name = name
        self.known = tuple(known)


class DownloadsLost(PermanentError):
    """This node does not have an export's objects (any more); they must be downloaded again."""


class InstancesMissing(PermanentError):
    """A node's spool does not hold (any more) what a job is to be made of; a person must look."""

    def __init__(self, missing: int, wanted: int) -> None:
        super().__init__(f"{missing} of {wanted} instances of the job are not in the spool of their node")
        self.missing = missing
        self.wanted = wanted


class InvalidInstance(PermanentError):
    """A file is not a SOP instance that can be handled."""


class JobForgotten(PermanentError):
    """The Clara Platform no longer knows a job that it made for us; it has to be created once more."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the Clara Platform no longer knows job {job_id}")
        self.job_id = job_id


class PlatformRefused(PermanentError):
    """The Clara Platform answered with a negative header code (clara-wire, section 2).

    Attributes:
        code: The ``ResponseHeader.code``, negative.
        messages: The platform's own messages.
    """

    def __init__(self, call: str, code: int, messages: Sequence[str]) -> None:
        super().__init__(f"{call} was refused with code {code}: {'; '.join(messages) or 'no message'}")
        self.call = call
        self.code = code
        self.messages = tuple(messages)


class ResultsServiceRefused(PermanentError):
    """The Results Service answered with a 4xx status."""

    def __init__(self, call: str, status: int) -> None:
        super().__init__(f"{call} was refused with HTTP status {status}")
        self.call = call
        self.status = status


class PresentationContextRefused(PermanentError):
    """The peer accepted no presentation context for a SOP class and transfer syntax that must be sent."""

    def __init__(self, called_ae_title: str, sop_class_uid: str, transfer_syntax_uid: str) -> None:
        super().__init__(
            f"{called_ae_title} accepts no presentation context for SOP class {sop_class_uid} "
            f"with transfer syntax {transfer_syntax_uid}"
        )
        self.called_ae_title = called_ae_title
        self.sop_class_uid = sop_class_uid
        self.transfer_syntax_uid = transfer_syntax_uid


class SpoolInUse(PermanentError):
    """Another process serves this spool or data folder."""


class SpoolUnusable(PermanentError):
    """The spool's format or contents cannot be served."""
