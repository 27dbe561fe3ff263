"""What a caller of the REST interface may do."""

from enum import StrEnum


class Role(StrEnum):
    """Each may do what those before it may."""

    READ = "read"
    """Look at everything."""
    OPERATE = "operate"
    """Answer what waits for a person, and send a C-ECHO."""
    CONFIGURE = "configure"
    """Change AE titles, sources and destinations."""

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what the other one may."""
        order = list(Role)
        return order.index(self) >= order.index(other)
