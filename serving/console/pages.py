"""Pages: a template, what every page shows, and errors as a person reads them."""

import hashlib
from collections.abc import Callable, Coroutine
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from ingest.errors import Refused, Unavailable, Unknown
from serving.console import door, wording
from serving.console.door import LoggedOut, Visitor
from serving.problem import Forbidden, TooLarge

# What may be fetched under /static/, and what it is.
STATIC = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FILTERS: list[Callable[..., Any]] = [
    wording.moment, wording.day, wording.age, wording.lasted, wording.field_time, wording.short,
    wording.after_label, wording.sides, wording.verdict, wording.ruling, wording.tally,
    wording.web_address, wording.shortened, wording.commands,
]  # fmt: skip
PLACES = [
    ("/", "Ask"),
    ("/search", "Search"),
    ("/incidents", "Incidents"),
    ("/quarantine", "Quarantine"),
    ("/models", "Models"),
    ("/audit", "Audit"),
    ("/status", "Status"),
]


class Page(APIRoute):
    """A route whose errors are pages: a sentence and a way out, not a document for a machine."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except LoggedOut as error:
                return _to_login(request, error)
            except RequestValidationError as error:
                first = error.errors()[0]
                return trouble(request, 422, f"{first['loc'][-1]}: {first['msg']}")
            except (Refused, Unavailable) as error:
                return trouble(request, status_of(error), str(error))

        return answered


def page(
    request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **values: Any
) -> Response:
    """This template, filled in; every value in it is escaped."""
    content = (
        _environment()
        .get_template(template)
        .render(
            visitor=visitor,
            path=request.url.path,
            here=_here(request),
            form_key=door.form_key(request),
            notice=request.query_params.get("notice"),
            told=dict(request.query_params),
            **values,
        )
    )
    response = HTMLResponse(content, status)
    # With the stricter no-referrer a browser calls the origin of our own forms "null".
    response.headers["Referrer-Policy"] = "same-origin"
    door.keep_form_cookie(request, response)
    return response


def trouble(request: Request, status: int, why: str) -> Response:
    """The page of an error; it asks nothing of the store, which may be the trouble."""
    return page(request, "trouble.html", None, status=status, why=why, code=status)


def status_of(error: Refused | Unavailable) -> int:
    """The HTTP status of this error."""
    if isinstance(error, Forbidden):
        return error.status
    statuses = [(TooLarge, 413), (Unknown, 404), (Refused, 422), (Unavailable, 503)]
    return next(status for kind, status in statuses if isinstance(error, kind))


def see(path: str) -> Response:
    """Go there with a GET: after an act, so that loading again does not act again."""
    return RedirectResponse(path, 303)


def static_file(name: str) -> bytes:
    """One of the console's own files."""
    return (files("serving.console") / "static" / name).read_bytes()


def _to_login(request: Request, error: LoggedOut) -> Response:
    if request.method != "GET":
        return trouble(request, error.status, str(error))
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A link in a chat: SameSite=Strict kept the cookie back, one step from our own page
        # brings it. Whoever is not logged in comes to the login from there.
        return page(request, "step.html", None, target=_here(request))
    return see(door.login_page(request))


def _here(request: Request) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("serving.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"places": PLACES, "static": _static_address}
    made.globals |= {"citation_link": wording.citation_link}
    made.globals |= {"marked": wording.marked, "spoken": wording.spoken}
    for word in _FILTERS:
        made.filters[word.__name__] = word
    return made


@cache
def _static_address(name: str) -> str:
    """The address of a file as it is now, so that a browser may keep it for good."""
    return f"/static/{name}?v={hashlib.sha256(static_file(name)).hexdigest()[:12]}"
