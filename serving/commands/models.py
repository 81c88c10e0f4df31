"""`scarwise models`, and the four commands that move the pointer to the one that is served.

A running service sees the pointer move by itself.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import ACTOR, AsJson, Reason, loaded, opened, say

if TYPE_CHECKING:
    from ingest.writing import Writing
    from training.registry import Pointer, Registered

MOST_METRICS = 3  # in a table of a hundred characters; `--json` has all

Version = Annotated[str, typer.Argument(help="7 or diag-v7.")]


def install(app: typer.Typer) -> None:
    for act in (models, promote, rollback, freeze, thaw):
        app.command()(act)


def models(
    version: Annotated[
        str | None, typer.Argument(help="7 or diag-v7: the gate's report on this one.")
    ] = None,
    incidents: Annotated[
        bool, typer.Option("--incidents", help="Instead: which incidents taught it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """All models and which is served; or one, with its report."""
    from ingest.errors import Refused
    from serving.wire import model_view, model_whole, pointer_view
    from training import registry

    if incidents:
        if version is None:
            raise Refused("--incidents: of which model? `scarwise models diag-v7 --incidents`")
        _show_lessons(as_json, registry.version_of(version))
        return
    if version is not None:
        with opened() as store:
            whole = model_whole(store, registry.version_of(version))
        _show(as_json, whole)
        return
    with opened() as store:
        pointer, found = registry.pointer(store), registry.every(store)
    if as_json:
        views = [model_view(m, pointer) for m in found]
        say(True, {"pointer": pointer_view(pointer), "models": views}, "")
        return
    _compare(pointer, found)


def promote(
    version: Version,
    reason: Reason = "not said",
    override: Annotated[
        bool, typer.Option("--override", help="Sign for what the gate did not pass; say why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve this model, if the gate passed it or you sign for it.

    Refused is, also with --override, what could not be served: of another prompt or base, or with
    other files than were registered. With an endpoint it is loaded and asked there first.
    """
    from training import registry

    number = registry.version_of(version)
    note = _tried_out(number, override)
    before, after = _moved(
        lambda w: registry.promote_in(w, number, reason=reason, override=override)
    )
    name = registry.named(number)
    if before == after:
        _say(as_json, before, after, f"{name} is the champion already; nothing changed")
        return
    if note:
        print(f"scarwise: {note}", file=sys.stderr)
    does = "is the champion" if note else "is served"
    sentence = f"{name} {does} from now on, in place of {registry.named(before.champion)}"
    _say(as_json, before, after, sentence, note)


def rollback(reason: Reason = "not said", as_json: AsJson = False) -> None:
    """Serve the champion before again, or the base.

    Possible while frozen too. Passed over are champions that were tainted since, or that could not
    be served any more.
    """
    from serving.tryout import fits, passed_over
    from training import registry

    settings = loaded()
    before, after = _moved(lambda w: registry.rollback_in(w, reason=reason, fits=fits(settings)))
    served, was = registry.named(after.champion), registry.named(before.champion)
    if note := passed_over(before, after):
        print(f"scarwise: {note}", file=sys.stderr)
    _say(as_json, before, after, f"{served} is served from now on, in place of {was}", note)


def freeze(reason: Reason = "not said", as_json: AsJson = False) -> None:
    """Let nothing be promoted, by a person or the job, until `thaw`."""
    from training import registry

    before, after = _moved(lambda w: registry.freeze_in(w, reason=reason))
    already = " already" if before == after else ""
    _say(as_json, before, after, f"frozen{already}: nothing is promoted until `scarwise thaw`")


def thaw(reason: Reason = "not said", as_json: AsJson = False) -> None:
    """Let models be promoted again."""
    from training import registry

    before, after = _moved(lambda w: registry.thaw_in(w, reason=reason))
    sentence = "nothing was frozen" if before == after else "thawed: models may be promoted again"
    _say(as_json, before, after, sentence)


def _tried_out(version: int, override: bool) -> str | None:
    """What keeps this model from being served at once; `Refused` when it never could be."""
    from serving.live import MOST_NEW_TOKENS
    from serving.there import There
    from serving.tryout import try_out

    settings = loaded()
    there = There.of(settings, MOST_NEW_TOKENS)
    try:
        with opened() as store:
            return try_out(store, settings, there, version, signed=override)
    finally:
        if there:
            there.close()


def _moved(move: "Callable[[Writing], Pointer]") -> "tuple[Pointer, Pointer]":
    """The pointer as it was and as it is."""
    from training import registry

    with opened() as store, store.transaction(ACTOR) as writing:
        return registry.pointer_in(writing), move(writing)


def _say(
    as_json: bool, before: "Pointer", after: "Pointer", sentence: str, note: str | None = None
) -> None:
    from serving.wire import pointer_view

    say(as_json, pointer_view(after, before, note), sentence)


def _compare(pointer: "Pointer", found: "Sequence[Registered]") -> None:
    from serving.comparison import as_figure, key_metrics, next_step
    from serving.terminal import console, table
    from serving.wire import model_view

    views = [model_view(m, pointer) for m in found]
    metrics = key_metrics(views, MOST_METRICS)
    rows = [
        [
            view["name"],
            f"{view['at']:%Y-%m-%d}",
            ", ".join([*view["marks"], *(["tainted"] if view["tainted"] else [])]),
            view["verdict"] or "not judged",
            *(as_figure(view["metrics"].get(name)) for name in metrics),
            view["dataset"],
            view["parent"] and f"v{view['parent']}",
        ]
        for view in views
    ]
    words = [name.replace("_", " ") for name in metrics]
    columns = ["model", "made", "is", "verdict", *words, "dataset", "from"]
    out = console()
    if rows:
        table(out, columns, rows)
    for view in (v for v in views if "challenger" in v["marks"]):
        step = next_step(view, frozen=pointer.frozen)
        out.print(f"{view['name']}: {step}", highlight=False, soft_wrap=True)
    frozen = "; promotion is frozen until `scarwise thaw`" if pointer.frozen else ""
    out.print(f"{_served(pointer, any_made=bool(rows))}{frozen}", soft_wrap=True)


def _served(pointer: "Pointer", *, any_made: bool) -> str:
    from training import registry

    if pointer.champion is None:
        todo = "" if any_made else "; `scarwise retrain` makes the first"
        return f"no model is served: answers are quoted from precedents{todo}"
    endpoint = loaded().serve.endpoint
    where = f" by {endpoint}" if endpoint else ""
    return f"{registry.named(pointer.champion)} is served{where}"


def _show_lessons(as_json: bool, version: int) -> None:
    from serving.terminal import console, table
    from serving.wire import lesson_view
    from training import lineage

    with opened() as store:
        taught = lineage.lessons(store, version)
    if as_json:
        say(True, [lesson_view(lesson) for lesson in taught], "")
        return
    table(console(), lineage.COLUMNS, lineage.cells(taught))


def _show(as_json: bool, whole: dict[str, Any]) -> None:
    from serving.terminal import console, show_model

    if as_json:
        say(True, whole, "")
    else:
        show_model(console(), whole)
