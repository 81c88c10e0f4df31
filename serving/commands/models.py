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
    """Every model beside the others, and which is served; or one, with the gate's report."""
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
    """Serve this model; refused unless the gate passed it or you sign for it.

    With an endpoint it is loaded and asked there first; one that it does not take is refused.
    """
    from training import registry

    number = registry.version_of(version)
    but = _tried_out(number, override)
    before, after = _moved(
        lambda w: registry.promote_in(w, number, reason=reason, override=override)
    )
    name = registry.named(number)
    if before == after:
        _say(as_json, before, after, f"{name} is the champion already; nothing changed")
    else:
        was = registry.named(before.champion)
        sentence = f"{name} is served from now on, in place of {was}"
        if but:
            sentence = f"{name} is the champion from now on, in place of {was}"
            print(f"scarwise: {but}; `scarwise serve` follows as soon as it can", file=sys.stderr)
        _say(as_json, before, after, sentence)


def rollback(reason: Reason = "not said", as_json: AsJson = False) -> None:
    """Serve the champion before again, or the base; possible while frozen too."""
    from training import registry

    before, after = _moved(lambda w: registry.rollback_in(w, reason=reason))
    served, was = registry.named(after.champion), registry.named(before.champion)
    _say(as_json, before, after, f"{served} is served from now on, in place of {was}")


def freeze(reason: Reason = "not said", as_json: AsJson = False) -> None:
    """Let nothing be promoted, by a person or by the job, until `thaw`."""
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
    """Why an endpoint cannot say now whether it takes this model; `Refused` when it does not."""
    from serving.live import MOST_NEW_TOKENS, try_out
    from serving.there import There

    settings = loaded()
    there = There.of(settings, MOST_NEW_TOKENS)
    if there is None:
        return None
    try:
        with opened() as store:
            return try_out(store, settings.home, there, version, signed=override)
    finally:
        there.close()


def _moved(move: "Callable[[Writing], Pointer]") -> "tuple[Pointer, Pointer]":
    """The pointer as it was and as it is."""
    from training import registry

    with opened() as store, store.transaction(ACTOR) as writing:
        return registry.pointer_in(writing), move(writing)


def _say(as_json: bool, before: "Pointer", after: "Pointer", sentence: str) -> None:
    from serving.wire import pointer_view

    say(as_json, pointer_view(after, before), sentence)


def _compare(pointer: "Pointer", found: "Sequence[Registered]") -> None:
    from serving.comparison import as_figure, key_metrics
    from serving.terminal import console, table
    from serving.wire import model_view
    from training import registry

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
    frozen = "; promotion is frozen" if pointer.frozen else ""
    endpoint = loaded().serve.endpoint
    where = f" by {endpoint}" if endpoint and pointer.champion is not None else ""
    out.print(f"{registry.named(pointer.champion)} is served{where}{frozen}")


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
