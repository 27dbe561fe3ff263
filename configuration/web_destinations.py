"""The store of DICOMweb destinations, beside those of ``configuration.store``; a name belongs to one of either kind."""

from collections.abc import Callable, Sequence

from sqlalchemy import Engine, RowMapping, delete, insert, select

from clara_dicom_adapter.configuration.entities import Destination, WebDestination
from clara_dicom_adapter.configuration.tables import DestinationRow, WebDestinationRow, reading
from clara_dicom_adapter.errors import AlreadyExists, NotFound


class WebDestinations:
    """What an operator configures; thread-safe, every call one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[WebDestination]:
        with reading(self._engine) as connection:
            statement = select(WebDestinationRow.__table__).order_by(WebDestinationRow.name)
            return [_of(row) for row in connection.execute(statement).mappings()]

    def one(self, name: str) -> WebDestination:
        """The one of that name, in any case of its letters; raises NotFound."""
        with reading(self._engine) as connection:
            statement = select(WebDestinationRow.__table__).where(WebDestinationRow.name_key == name.casefold())
            row = connection.execute(statement).mappings().first()
        if row is None:
            raise NotFound("DICOMweb destination", name)
        return _of(row)

    def add(self, entity: WebDestination) -> WebDestination:
        """Add one; names are unique over both kinds, without regard to case. Raises AlreadyExists."""
        key = entity.name.casefold()
        with self._engine.begin() as connection:
            for table in (DestinationRow, WebDestinationRow):
                if connection.scalar(select(table.name).where(table.name_key == key)) is not None:
                    raise AlreadyExists(f"Destination with name {entity.name} already exists.")
            values = entity.model_dump(mode="json") | {"name_key": key}
            connection.execute(insert(WebDestinationRow).values(values))
        return entity

    def remove(self, name: str) -> WebDestination:
        """Remove one; raises NotFound."""
        entity = self.one(name)
        with self._engine.begin() as connection:
            connection.execute(delete(WebDestinationRow).where(WebDestinationRow.name == entity.name))
        return entity


class EveryDestination:
    """Destinations of both kinds."""

    def __init__(self, by_dicom: Callable[[], Sequence[Destination]], engine: Engine) -> None:
        """Args:
        by_dicom: Gives those that take C-STORE, wherever they are kept.
        """
        self._by_dicom = by_dicom
        self._web = WebDestinations(engine)

    def destinations(self) -> Sequence[Destination | WebDestination]:
        return [*self._by_dicom(), *self._web.all()]

    def name_of(self, name: str) -> str:
        """As it is written there; raises NotFound."""
        for each in self.destinations():
            if each.name.casefold() == name.casefold():
                return each.name
        raise NotFound("Destination", name)


def _of(row: RowMapping) -> WebDestination:
    values = dict(row)
    del values["name_key"]
    return WebDestination.model_validate(values)
