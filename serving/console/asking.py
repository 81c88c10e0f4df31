"""The pages that answer: the box, the diagnosis with its precedents, the search, and the verdicts.

A short question stands in the address, so that it can be sent to a colleague and asked again. A
long one, or one that holds a secret, does not: it is posted, and asked again by the id under
which it is kept, without its secrets.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Request, Response

from ingest import feedback, queries
from ingest.errors import Refused
from ingest.redact import redact_text
from retrieval.diagnosis import Diagnosis
from serving import body
from serving.console import door
from serving.console.door import Fields, Looking, OwnForm, Visitor
from serving.console.pages import Page, page, see
from serving.routes.questions import question_of
from serving.service import Service
from serving.wire import DiagnoseRequest, FeedbackRequest, SearchRequest, answer_view

router = APIRouter(route_class=Page, include_in_schema=False)

LONGEST_IN_ADDRESS = 1_500  # characters; a chat or a proxy cuts much longer addresses
MOST_RECENT = 6
BOX = ("text", "service", "severity", "source", "since", "as_of", "limit")


@router.get("/")
def home(request: Request, visitor: Looking) -> Response:
    """The box, and what happened last."""
    store = request.app.state.service.store
    latest = {"recent": store.page(limit=MOST_RECENT, trust="trusted"), "counts": store.count()}
    return page(request, "ask.html", visitor, **(_blank(_box({})) | latest))


@router.get("/diagnose")
def diagnose(request: Request, visitor: Looking) -> Response:
    """What it most likely is, for the question in the address."""
    return _diagnosed(request, visitor, dict(request.query_params))


@router.post("/diagnose")
def diagnose_pasted(request: Request, visitor: Looking, fields: Fields) -> Response:
    """The same for what was typed or pasted; asking changes nothing, so its form needs no key."""
    door.came_from_here(request)
    address = _address("/diagnose", fields)
    return see(address) if address else _diagnosed(request, visitor, fields)


@router.get("/search")
def search(request: Request, visitor: Looking) -> Response:
    """The ranking alone, with every filter."""
    return _searched(request, visitor, dict(request.query_params))


@router.post("/search")
def search_pasted(request: Request, visitor: Looking, fields: Fields) -> Response:
    """The same for what was typed or pasted."""
    door.came_from_here(request)
    address = _address("/search", fields)
    return see(address) if address else _searched(request, visitor, fields)


@router.post("/verdicts")
def judged(request: Request, visitor: Looking, fields: OwnForm) -> Response:
    """Keep a verdict on a precedent, and ask again what it was given on."""
    visitor.must("write")
    service: Service = request.app.state.service
    back = door.local(fields.pop("back", None))
    asked = body.as_model(FeedbackRequest, {**_filled(fields), "who": visitor.name})
    if asked.query_id:
        service.keep_questions()  # the answer being judged may not be written yet
    with service.store.transaction(visitor.actor) as writing:
        kept = feedback.give(writing, feedback.Feedback(**asked.model_dump()))
    service.noticed()
    return see(with_notice(back, "judged", verdict=kept.verdict, id=str(kept.id)))


@router.post("/verdicts/{feedback_id}/withdraw")
def withdrawn(request: Request, visitor: Looking, fields: OwnForm, feedback_id: str) -> Response:
    """Take a verdict back."""
    visitor.must("write")
    service: Service = request.app.state.service
    with service.store.transaction(visitor.actor) as writing:
        feedback.withdraw(writing, feedback_id, reason="undone in the console")
    service.noticed()
    return see(with_notice(door.local(fields.get("back")), "withdrawn"))


def with_notice(path: str, notice: str, **told: str) -> str:
    """The address, with what the page there is to say; what it was to say before is left out."""
    parts = urlsplit(path)
    kept = [(k, v) for k, v in parse_qsl(parts.query) if k not in ("notice", "verdict", "id")]
    return f"{parts.path}?{urlencode([*kept, ('notice', notice), *told.items()])}"


def _diagnosed(request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
    service: Service = request.app.state.service
    box = _box(fields)
    try:
        _recall(service, fields, box)
        if not box["text"]:
            return see("/")
        question = question_of(body.as_model(DiagnoseRequest, _asked(box)))
    except Refused as error:
        return page(request, "ask.html", visitor, status=422, **_blank(box, why=str(error)))
    diagnosis = service.diagnose(question)
    found = {
        "diagnosis": diagnosis,
        "hits": _precedents(service, diagnosis),
        "as_of": question.as_of,
        "back": _again("/diagnose", box, diagnosis.query_id),
    }
    return page(request, "ask.html", visitor, **(_blank(box) | found))


def _searched(request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
    service: Service = request.app.state.service
    box = _box(fields)
    try:
        _recall(service, fields, box)
        if not box["text"]:
            return page(request, "search.html", visitor, **_blank(box))
        question = body.as_model(SearchRequest, _wanted(box)).question()
    except Refused as error:
        return page(request, "search.html", visitor, status=422, **_blank(box, why=str(error)))
    answer = answer_view(service.search(question))
    found = {
        "answer": answer,
        "as_of": question.as_of,
        "back": _again("/search", box, answer["query_id"]),
    }
    return page(request, "search.html", visitor, **(_blank(box) | found))


def _precedents(service: Service, diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """The precedents with what a person reads of them first: the services, the cause, the fix."""
    keys = [(p.incident_id, p.version) for p in diagnosis.precedents]
    kept = service.store.many(keys)
    there = [p for p, key in zip(diagnosis.precedents, keys, strict=True) if key in kept]
    return [
        p.model_dump()
        | kept[p.incident_id, p.version].incident.model_dump(
            include={"services", "severity", "root_cause", "resolution"}
        )
        for p in there
    ]


def _blank(box: dict[str, str], why: str | None = None) -> dict[str, Any]:
    """What the page shows while nothing is answered."""
    return {"box": box, "why": why, "diagnosis": None, "answer": None, "recent": [], "counts": {}}


def _box(fields: Mapping[str, str]) -> dict[str, str]:
    """What stands in the box and beside it."""
    return {name: fields.get(name, "").strip() for name in BOX}


def _recall(service: Service, fields: Mapping[str, str], box: dict[str, str]) -> None:
    """Put the question into the box that is to be asked again. Raises `Unknown`."""
    again = fields.get("again")
    if again and not box["text"]:
        service.keep_questions()  # it may not be written yet
        box["text"] = queries.kept(service.store, again).text


def _asked(box: Mapping[str, str]) -> dict[str, Any]:
    """The box as the API's `DiagnoseRequest`: one JSON object is an alert, all else is words."""
    asked: dict[str, Any] = {"services": _services(box)}
    alert = _alert(box["text"])
    asked |= {"alert": alert} if alert else {"text": box["text"]}
    return asked | _filled({"as_of": box["as_of"]})


def _wanted(box: Mapping[str, str]) -> dict[str, Any]:
    """The box as the API's `SearchRequest`."""
    others = {name: box[name] for name in BOX if name != "service"}
    return {"services": _services(box), **_filled(others)}


def _services(box: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in box["service"].split(",") if name.strip()]


def _alert(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None


def _filled(fields: Mapping[str, str]) -> dict[str, str]:
    """Without what was left blank, which a form sends all the same."""
    return {name: value for name, value in fields.items() if value.strip()}


def _address(path: str, fields: Mapping[str, str]) -> str | None:
    """The address that asks this question; None when its text is too long or too secret for one."""
    box = _box(fields)
    if len(box["text"]) > LONGEST_IN_ADDRESS or redact_text(box["text"])[1]:
        return None
    return f"{path}?{urlencode(_filled(box))}"


def _again(path: str, box: Mapping[str, str], query_id: str) -> str:
    """The address that asks this question again."""
    others = {name: value for name, value in box.items() if name != "text"}
    return _address(path, box) or f"{path}?{urlencode({'again': query_id, **_filled(others)})}"
