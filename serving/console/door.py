"""Who looks at the console, and whether a form that comes back is one of ours.

The tokens are the API's. A browser cannot send them by itself, so a page takes one and keeps it
in a cookie that no script can read and that no other site's page can make the browser send. What
a cookie alone allows is therefore asked of every form again: that it came from our own page.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Depends, Request, Response

from ingest import access
from ingest.errors import Unreadable
from ingest.store import Store
from serving import auth, body
from serving.auth import Scope
from serving.problem import Forbidden

TOKEN_COOKIE = "scarwise_token"
FORM_COOKIE = "scarwise_form"
LOGGED_IN_S = 7 * 24 * 3600  # a week on call; a token that is revoked ends it at once
MOST_FIELDS = 50

_REACH = {"read": 0, "write": 1, "admin": 2}


class LoggedOut(Forbidden):
    """Tokens exist, and the browser carries none that is known."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks, and how far that reaches; without a name, the service is open to everybody."""

    name: str | None
    reach: Scope

    @property
    def actor(self) -> str:
        """Who an act is attributed to in the audit trail, as over the API."""
        return f"token:{self.name}" if self.name else "local"

    def may(self, scope: Scope) -> bool:
        return _REACH[self.reach] >= _REACH[scope]

    def must(self, scope: Scope) -> None:
        """Raise `Forbidden` unless this visitor may."""
        if not self.may(scope):
            raise Forbidden(f"token {self.name} holds {self.reach}; this needs {scope}", known=True)


def visitor(request: Request) -> Visitor:
    """Who looks at this page. Raises `LoggedOut` when only a token lets them."""
    store: Store = request.app.state.service.store
    if not access.any_token(store):
        auth.caller(request, store, "admin")
        return Visitor(None, "admin")
    secret = request.cookies.get(TOKEN_COOKIE)
    token = access.check(store, secret) if secret else None
    if token is None:
        raise LoggedOut("log in with a token; `scarwise token create` makes one", known=False)
    return Visitor(token.name, max(token.scopes, key=lambda scope: _REACH[scope]))


async def filled_in(request: Request) -> dict[str, str]:
    """The fields of the form that was sent. Raises `Unreadable` or `TooLarge`."""
    content = await body.read(request)
    try:
        pairs = parse_qsl(
            content.decode(), keep_blank_values=True, strict_parsing=bool(content),
            max_num_fields=MOST_FIELDS,
        )  # fmt: skip
    except ValueError as error:
        raise Unreadable(f"this is not a form of the console: {error}") from None
    return dict(pairs)


Fields = Annotated[dict[str, str], Depends(filled_in)]
Looking = Annotated[Visitor, Depends(visitor)]


def own_form(request: Request, fields: Fields) -> dict[str, str]:
    """The fields of a form that one of our pages holds. Raises `Forbidden` for any other."""
    came_from_here(request)
    given, due = fields.pop("csrf", ""), form_key(request)
    if not hmac.compare_digest(given.encode(), due.encode()):
        raise Forbidden(
            "this form is older than your login, or another site's; go back, load the page again "
            "and repeat it",
            known=True,
        )
    return fields


OwnForm = Annotated[dict[str, str], Depends(own_form)]


def came_from_here(request: Request) -> None:
    """Raise `Forbidden` when the browser says that another site's page sent this."""
    sent_by = request.headers.get("sec-fetch-site")
    if sent_by is not None:
        here = sent_by in ("same-origin", "none")
    else:
        # Browsers keep Sec-Fetch-Site to themselves on plain http, and older ones have none.
        origin = request.headers.get("origin")
        here = origin is None or urlsplit(origin).netloc == request.url.netloc
    if not here:
        raise Forbidden(
            "a page of another site sent this form; open the console itself", known=True
        )


def form_key(request: Request) -> str:
    """What each of our forms carries: only a page of ours, in this login, can know it."""
    token = request.cookies.get(TOKEN_COOKIE, "")
    return hashlib.sha256(f"{_form_cookie(request)}\0{token}".encode()).hexdigest()


def keep_form_cookie(request: Request, response: Response) -> None:
    """Give the browser what its forms are checked by, when it has none yet."""
    if not request.cookies.get(FORM_COOKIE):
        _set(request, response, FORM_COOKIE, _form_cookie(request), None)


def log_in(request: Request, response: Response, secret: str) -> None:
    """Let the browser carry this token to the console, and to nobody's script."""
    _set(request, response, TOKEN_COOKIE, secret, LOGGED_IN_S)


def log_out(response: Response) -> None:
    response.delete_cookie(TOKEN_COOKIE, httponly=True, samesite="strict")


def local(path: str | None, default: str = "/") -> str:
    """This path when it stays within the console, else the default: never another site's."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\")):
        return default
    if any(ord(c) < 0x21 for c in path):
        return default
    return path


def login_page(request: Request) -> str:
    """Where to log in, and to come back from to this page."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/login?{urlencode({'next': here})}" if here != "/" else "/login"


def _form_cookie(request: Request) -> str:
    held = request.cookies.get(FORM_COOKIE)
    if held:
        return held
    if not hasattr(request.state, "form_cookie"):
        request.state.form_cookie = secrets.token_urlsafe(24)
    return str(request.state.form_cookie)


def _set(request: Request, response: Response, name: str, value: str, age_s: int | None) -> None:
    response.set_cookie(
        name, value, max_age=age_s, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
