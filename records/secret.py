"""The site's secret, with which values that are a patient's are hashed before they stand in a workflow id."""

import secrets

from sqlalchemy import Engine, select

from clara_dicom_adapter.records.tables import SiteSecretRow
from clara_dicom_adapter.records.upsert import upsert

_ID = 1


class SiteSecret:
    """One secret for all nodes, made once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_or_create(self) -> str:
        """32 bytes in hex; whoever asks first makes it, everyone gets the same."""
        with self._engine.begin() as connection:
            upsert(connection, SiteSecretRow, [{"id": _ID, "secret": secrets.token_hex(32)}])
            return connection.scalars(select(SiteSecretRow.secret).where(SiteSecretRow.id == _ID)).one()
