"""`scarwise backtest`: what would have been said when each past incident began, on one page."""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ingest.errors import Refused
from serving.commands.options import AsJson, loaded

if TYPE_CHECKING:
    from eval.backtest import Case, Voice
    from eval.backtest_page import About
    from eval.precedents import Known
    from ingest.store import Store
    from retrieval.prompt import Prompt, Reply
    from serving.service import Service
    from serving.settings import Settings

PATIENCE_S = 600.0  # that a model is given for an answer: nobody is waiting
TOGETHER = 8  # prompts that a model is asked at once
_UNFAIR = (
    "it may have learned how each of them ended, so it was asked none, and every answer is quoted "
    "from precedents."
)

Since = Annotated[str | None, typer.Option(help="Only what began then or later: 2023-01-01.")]
Until = Annotated[str | None, typer.Option(help="Only what began before that.")]
Limit = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="Only the latest so many of these.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The page to write.")]
Cases = Annotated[Path | None, typer.Option(help="A JSONL file for every answer, to argue with.")]
Label = Annotated[
    str | None,
    typer.Option(
        "--family-label", help="The label that names causes, where cause_family does not."
    ),
]


def install(app: typer.Typer) -> None:
    app.command("backtest")(backtest)


def backtest(
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    out: Out = Path("backtest.html"),
    cases: Cases = None,
    family_label: Label = None,
    as_json: AsJson = False,
) -> None:
    """Ask every past incident again, as of its own start, and show on a page how that went.

    Writes one file that opens without a network: were the precedents found, were the causes
    right, did it hold back when something was new. Nothing is written to the knowledge base, but
    for vectors that were still missing.
    """
    from eval import precedents
    from eval.backtest import chosen
    from eval.backtest_page import lead, page
    from eval.backtest_scores import figures
    from serving.commands.bar import Bar
    from serving.service import Service

    begin, end = _moment("--since", since), _moment("--until", until)
    for place in filter(None, (out, cases)):
        _refuse_place(place)
    told = {"--since": since, "--until": until, "--limit": limit, "--family-label": family_label}
    settings = loaded()
    with ExitStack() as stack:
        house = Service.open(settings)
        stack.callback(house.close)
        truth = precedents.Precedents(house.store, house.index, label=family_label)
        asked = chosen(truth, since=begin, until=end, limit=limit)
        bar = stack.enter_context(Bar("backtest", None))
        house.warm(progress=lambda p: bar.note(p.step))
        house.index.embed_all(bar.at)  # and nothing that was stored since
        voice, why = stack.enter_context(_voice(house.store, settings, asked))
        pages, lines = stack.enter_context(_file(out)), stack.enter_context(_file(cases))
        bar.named(f"of {len(asked)} incidents")
        kept = _replayed(house, truth, asked, voice, lines, bar.at)
        found, about = figures(kept), _about(house, told, family_label, why)
        if pages:
            pages.write(page(found, about))
    if as_json:
        print(json.dumps(_view(found, about, out), default=str))
        return
    print("\n".join([*lead(found), f"the page: {out}"]))


def _replayed(
    house: "Service",
    truth: Any,
    asked: "Sequence[Known]",
    voice: "Voice | None",
    lines: IO[str] | None,
    progress: Any,
) -> "list[Case]":
    """Every case, written down as it comes."""
    from eval.backtest import backtest as replay
    from ingest.lessons import embargoed

    suite = frozenset(embargoed(house.store))
    kept: list[Case] = []
    for case in replay(house.store, house.index, truth, asked, voice=voice, suite=suite):
        kept.append(case)
        progress(len(kept), len(asked))
        if lines:
            lines.write(case.model_dump_json() + "\n")
    return kept


@contextmanager
def _voice(
    store: "Store", settings: "Settings", asked: "Sequence[Known]"
) -> "Iterator[tuple[Voice | None, str]]":
    """The champion, where it may be asked of any of these; and in a sentence, why or why not."""
    from functools import partial

    from eval.backtest import Voice
    from serving.live import Live
    from serving.service import load_model
    from training import registry

    champion = registry.pointer(store).champion
    if champion is None:
        yield None, "No model is champion here, so every answer is quoted from precedents."
        return
    model = registry.get(store, champion)
    made = f"{model.name} was registered on {model.at:%Y-%m-%d %H:%M} UTC"
    fair = sum(known.started_at >= model.at for known in asked if known.started_at)
    if not fair:
        yield None, f"{made}, and none of these incidents began after that: {_UNFAIR}"
        return
    live = Live(store, settings.home, partial(load_model, settings), timeout_s=PATIENCE_S)
    try:
        live.follow()
        if live.serving is None:
            yield None, f"{model.name} could not be asked: {live.why}."
            return
        voice = Voice(live.serving.told, live.serving.at, partial(_answered, live))
        yield voice, f"{made}; of the {fair} incidents that began after that it was asked too."
    finally:
        live.close()


def _answered(live: Any, prompts: "Sequence[Prompt]") -> "list[Reply | None]":
    """A reply to each, several at once; None where none came that can be used."""
    from concurrent.futures import ThreadPoolExecutor

    from serving.waiting import NoAnswer

    def reply(prompt: "Prompt") -> "Reply | None":
        try:
            said: Reply = live.answer(prompt).reply
            return said
        except NoAnswer:
            return None

    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(pool.map(reply, prompts))


def _about(house: "Service", told: dict[str, Any], label: str | None, model: str) -> "About":
    from importlib.metadata import version

    from eval.backtest_page import About

    given = [word for name, value in told.items() if value for word in (name, str(value))]
    counts, index = house.store.count(), house.index
    return About(
        command=shlex.join(["scarwise", "backtest", *given]),
        version=version("scarwise"),
        at=datetime.now(UTC),
        incidents=counts["incidents"],
        versions=counts["versions"],
        revision=house.store.head(),
        embedder=index.embedder.model_id if index.embedder else None,
        label=label,
        model=model,
    )


def _view(found: Any, about: Any, out: Path) -> Any:
    from pydantic_core import to_jsonable_python

    return {"about": to_jsonable_python(about), **to_jsonable_python(found), "page": str(out)}


def _moment(option: str, text: str | None) -> datetime | None:
    from ingest.moments import read_moment

    at = read_moment(text) if text else None
    if text and at is None:
        raise Refused(f"{option} {text!r} is no date; write it as 2023-01-01 or 2023-01-01T10:00Z")
    return at


def _refuse_place(place: Path) -> None:
    if place.is_dir() or not place.parent.is_dir():
        raise Refused(f"{place} cannot be written: name a file in a folder that is there")


@contextmanager
def _file(place: Path | None) -> Iterator[IO[str] | None]:
    """A file that is opened before the long part, and is there once all of it is written."""
    from training.folders import in_our_words

    if place is None:
        yield None
        return
    draft = place.with_name(f".{place.name}.draft")
    with in_our_words(place):
        try:
            with draft.open("w", encoding="utf-8") as file:
                draft.chmod(0o600)  # it quotes incidents
                yield file
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
