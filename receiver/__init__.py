"""The Storage SCP: who may associate, what is stored, and how it reaches Temporal.

:class:`~clara_dicom_adapter.receiver.service.ReceiverService` composes the room; nothing here decodes a data set.
"""
