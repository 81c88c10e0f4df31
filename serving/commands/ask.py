"""`scarwise search` and `scarwise diagnose`: a question, and what the past says to it."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ingest.errors import Refused, Unreadable
from serving.commands.options import AsJson, loaded
from serving.running import Running, running

Words = Annotated[list[str] | None, typer.Argument(help="The symptom, the alert, the log line.")]
File = Annotated[
    str | None,
    typer.Option("--file", "-f", help="A file with the alert as JSON, or a log; - for stdin."),
]
Service = Annotated[
    list[str] | None, typer.Option("--service", "-s", help="Only incidents of this service.")
]
AsOf = Annotated[
    str | None, typer.Option(help="Answer as it would have been then: 2026-03-01T10:00Z.")
]


def install(app: typer.Typer) -> None:
    app.command("search")(search)
    app.command("diagnose")(diagnose)


def search(
    text: Words = None,
    file: File = None,
    service: Service = None,
    severity: Annotated[str | None, typer.Option(help="Only of this severity.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what began after this time.")] = None,
    as_of: AsOf = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many.")] = 5,
    as_json: AsJson = False,
) -> None:
    """The most similar past incidents: why similar, what fixed them, and whether that held."""
    asked = {"text": _text(text, file), "services": service or [], "limit": limit}
    asked |= {"severity": severity, "since": since, "as_of": as_of}
    answer = _answer("search", {k: v for k, v in asked.items() if v is not None})
    if as_json:
        print(json.dumps(answer, default=str))
        return
    from serving.terminal import console, show_answer

    show_answer(console(), answer)


def diagnose(
    text: Words = None,
    file: File = None,
    service: Service = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """What it most likely is, with the sentences that say so; or that it was never seen before."""
    given = _text(text, file)
    asked: dict[str, Any] = {"services": service or []}
    alert = _as_alert(given) if file else None
    asked |= {"alert": alert} if alert else {"text": given}
    if as_of:
        asked["as_of"] = as_of
    diagnosis = _answer("diagnose", asked)
    if as_json:
        print(json.dumps(diagnosis, default=str))
        return
    from serving.terminal import console, show_diagnosis

    show_diagnosis(console(), diagnosis)


def _text(words: list[str] | None, file: str | None) -> str:
    if words and file:
        raise Refused("give either words or --file, not both")
    if words:
        return " ".join(words)
    if file is None and sys.stdin.isatty():
        raise Refused('say what to look for: `scarwise search "disk full on db-3"`')
    if file in (None, "-"):
        return sys.stdin.read()
    try:
        return Path(str(file)).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Unreadable(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}") from None


def _as_alert(text: str) -> dict[str, Any] | None:
    """The alert, when this text is one JSON object; any other text is a question in words."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _answer(call: str, asked: dict[str, Any]) -> Any:
    """From the running service of this data folder, else from here."""
    from serving import settings

    there = running(settings.load().running)
    if there:
        return _from_service(there, call, asked)
    return _from_here(call, asked)


def _from_service(there: Running, call: str, asked: dict[str, Any]) -> Any:
    from serving import client

    try:
        return client.ask(there, "POST", f"/v1/{call}", asked)
    except client.NobodyAnswers:
        return _from_here(call, asked)


def _from_here(call: str, asked: dict[str, Any]) -> Any:
    from serving import body
    from serving.routes.questions import question_of
    from serving.service import Service as House
    from serving.wire import DiagnoseRequest, SearchRequest, answer_view

    if call == "search":
        question = body.as_model(SearchRequest, asked).question()
    else:
        question = question_of(body.as_model(DiagnoseRequest, asked))
    house = House.open(loaded())
    try:
        house.warm()
        house.index.embed_some(0)
        if call == "search":
            return answer_view(house.search(question))
        if house.live.wants_loading():
            print("scarwise: no service runs; loading the model here first", file=sys.stderr)
            house.live.follow()
        return house.diagnose(question).model_dump(mode="json")
    finally:
        house.close()
