"""Logs what the objects say that are sent, for ``scu>logDimseDatasets``."""

from dataclasses import dataclass

import structlog

from clara_dicom_adapter.dicom import dataset_words
from clara_dicom_adapter.dicom.requestor import StoredObject

log = structlog.get_logger("clara_dicom_adapter.dicom")


@dataclass(frozen=True, slots=True)
class DatasetLog:
    """What is logged of each dataset.

    Attributes:
        patient_attributes: Whether values are shown that may tell who the patient is.
    """

    patient_attributes: bool = False

    def sending(self, called_ae_title: str, stored: StoredObject) -> None:
        """An object is about to be sent."""
        log.info(
            "dimse_dataset",
            direction="sent",
            called_ae_title=called_ae_title,
            bytes=stored.dataset_bytes,
            transfer_syntax_uid=stored.context.transfer_syntax_uid,
            elements=dataset_words.of_file(
                stored.path,
                stored.dataset_offset,
                stored.context.transfer_syntax_uid,
                size=stored.dataset_bytes,
                patient_attributes=self.patient_attributes,
            ),
        )
