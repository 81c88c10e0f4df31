"""Who may call: a bearer token with a scope, or anybody on a loopback bind without tokens."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from ingest import access
from ingest.store import Store
from serving.problem import Forbidden

Scope = Literal["read", "write", "admin"]

_REACH = {"read": 0, "write": 1, "admin": 2}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who an act is attributed to in the audit trail."""

    name: str


def is_loopback(host: str) -> bool:
    """Whether this address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def caller(request: Request, store: Store, scope: Scope) -> Caller:
    """Who is calling, when that reaches `scope`; else `Forbidden`."""
    given = request.headers.get("authorization", "")
    kind, _, secret = given.partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        token = access.check(store, secret.strip())
        if token is None:
            raise Forbidden("this token is not known here, or was revoked", known=False)
        if max(_REACH[s] for s in token.scopes) < _REACH[scope]:
            held = ", ".join(token.scopes)
            raise Forbidden(f"token {token.name} holds {held}; this needs {scope}", known=True)
        return Caller(f"token:{token.name}")
    if access.any_token(store):
        raise Forbidden(
            f"send Authorization: Bearer TOKEN with scope {scope}; "
            "`scarwise token create` makes one",
            known=False,
        )
    _refuse_other_sites(request)
    return Caller("local")


def needs(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency of a route: the caller, allowed to do this."""

    async def allowed(request: Request) -> Caller:
        return caller(request, request.app.state.service.store, scope)

    return allowed


def _refuse_other_sites(request: Request) -> None:
    """An open service answers this machine, not a page of another site in its browser."""
    host = request.url.hostname or ""
    if not is_loopback(host):
        raise Forbidden(
            f"the service is open to this machine only, not to host {host!r}; create a token first",
            known=True,
        )
    origin = request.headers.get("origin")
    if origin and origin != f"{request.url.scheme}://{request.url.netloc}":
        raise Forbidden(f"a page of {origin} may not call an open service", known=True)
