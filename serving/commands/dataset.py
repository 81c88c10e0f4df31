"""`scarwise dataset`: what the store's incidents teach, as files."""

from typing import Annotated, Any

import typer

from serving.commands.options import ACTOR, AsJson, loaded, opened, say

app = typer.Typer(help="Export what incidents teach; list and show exports.", no_args_is_help=True)

_SHOWN = ("tasks", "sources", "dropped_incidents", "left_out", "difference")


@app.command("export")
def export(as_json: AsJson = False) -> None:
    """Turn every trusted, resolved incident into training rows, as of its own start.

    Cases of the suite and their near-copies stay out. The same store gives the same dataset.
    """
    from serving.commands.bar import Bar
    from serving.service import Service
    from training import dataset

    settings = loaded()
    service = Service.open(settings)
    try:
        with Bar("exporting", None) as bar:
            service.warm(progress=lambda p: bar.note(p.step))
            service.embed_all(lambda p: bar.at(p.done, p.total))
            made = dataset.export(
                service.store, service.index, settings.datasets, actor=ACTOR, progress=bar.at
            )
    finally:
        service.close()
    say(as_json, {**made.manifest, "folder": str(made.folder), "fresh": made.fresh}, _said(made))


@app.command("list")
def every(as_json: AsJson = False) -> None:
    """Every dataset that was exported, the oldest first."""
    from ingest.lessons import datasets
    from serving.terminal import console, table

    with opened() as store:
        kept = datasets(store)
    if as_json:
        say(True, [_line(one) for one in kept], "")
        return
    if not kept:
        say(False, None, "no dataset yet; `scarwise dataset export` makes one")
        return
    columns = ("name", "at", "rows", "incidents", "new", "withdrawn")
    table(console(), columns, [list(_line(one).values()) for one in kept])


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The dataset, such as ds-0123456789ab.")],
    as_json: AsJson = False,
) -> None:
    """The manifest of one dataset: what it holds, what was left out and why."""
    from serving.terminal import console, table
    from training import dataset

    settings = loaded()
    with opened() as store:
        found = dataset.opened(store, settings.datasets, name)
    if as_json:
        say(True, {**found.manifest, "folder": str(found.folder)}, "")
        return
    told = found.manifest
    say(False, None, f"{_said(found)}\nprompt {told['prompt_hash']}, embedder {told['embedder']}")
    rows = [(part.replace("_", " "), *item) for part in _SHOWN for item in told[part].items()]
    table(console(), ("", "what", "count"), rows)
    for ids in told["suspected_poison"]:
        say(False, None, f"one resolution for unrelated alerts, to be looked at: {', '.join(ids)}")


def _said(made: Any) -> str:
    told = made.manifest
    dropped = sum(told["dropped_incidents"].values())
    as_before = "" if made.fresh else " (as before)"
    return (
        f"{told['name']}: {told['rows']} rows of {told['incident_count']} incidents{as_before}, "
        f"{dropped} incidents left out, {told['embargo']['cases']} under embargo; {made.folder}"
    )


def _line(kept: Any) -> dict[str, Any]:
    told = kept.manifest
    return {
        "name": kept.name,
        "at": kept.at.isoformat(timespec="seconds"),
        "rows": told["rows"],
        "incidents": told["incident_count"],
        "new": told["difference"]["incidents_new"],
        "withdrawn": kept.withdrawn_at and kept.withdrawn_at.isoformat(timespec="seconds"),
    }
