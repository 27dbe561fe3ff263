"""The store session of one association, without a network."""

from pathlib import Path

from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, facts

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.acceptance import KnownAeTitle
from clara_dicom_adapter.receiver.c_store import StoreSession
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.naming import Naming
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.models import AssociationOutcome


def test_an_instance_that_the_end_of_its_association_overtakes_is_not_answered_with_success(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        association = facts()
        live = LiveAssociation(association.association_id, "CT1", "CLARA", "127.0.0.1")
        session = StoreSession(
            live,
            KnownAeTitle(ClaraAeTitle(name="CLARA", ae_title="CLARA"), association.ae),
            open_folder=lambda: spool.begin_association(association),
            can_store=lambda: True,
            naming=Naming(),
            closed=lambda live, outcome, owed: None,
        )
        request = commands.StoreRequest(1, CT, "1.2.3")
        session.begin(request, CT, EXPLICIT_LITTLE_ENDIAN)
        session.write([memoryview(b"1234")])
        session.end(AssociationOutcome.ADAPTER_STOPPED)
        assert session.complete()[0] == commands.OUT_OF_RESOURCES
        session.begin(request, CT, EXPLICIT_LITTLE_ENDIAN)
        assert session.complete()[0] == commands.OUT_OF_RESOURCES
        assert list(spool.association(association.association_id).stored()) == []
