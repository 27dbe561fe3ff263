"""Who calls, and what they may do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from fastapi import Depends, Request

from clara_dicom_adapter.configuration.roles import Role


@dataclass(frozen=True)
class Caller:
    """Who sent a request: a key's name or a token's subject, and the role it has."""

    name: str
    role: Role


ANYBODY = Caller("anybody", Role.CONFIGURE)
"""A caller where no authentication is asked for."""


class NotAuthenticated(Exception):
    """The request does not say who sends it, or not in a way that is believed."""


class NotAllowed(Exception):
    """The caller is known, and may not do this."""

    def __init__(self, caller: Caller, role: Role) -> None:
        super().__init__(f"This needs the role {role.value}; {caller.name} has {caller.role.value}.")


class IdentityProviderUnavailable(Exception):
    """A token cannot be checked, because its issuer's keys cannot be had."""


def caller_of(request: Request) -> Caller:
    """As :class:`api.authentication.Authentication` has found it."""
    return cast(Caller, request.state.caller)


def needs(role: Role) -> Any:
    """A route's dependency that lets in who has a role."""
    return Depends(_check(role))


def _check(role: Role) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        caller = caller_of(request)
        if not caller.role.includes(role):
            raise NotAllowed(caller, role)

    return check
