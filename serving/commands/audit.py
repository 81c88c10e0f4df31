"""`scarwise audit`: what was done, by whom, and whether the trail is whole."""

from typing import Annotated

import typer

from serving.commands.options import AsJson, opened, say

app = typer.Typer(help="Verify the audit chain; show its entries.", no_args_is_help=True)

UNSOUND = 5


@app.command("verify")
def verify(
    anchor: Annotated[
        str | None, typer.Option(help="COUNT:HASH noted earlier: finds a trail cut off since.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every link; exit code 5 when one is broken."""
    from dataclasses import asdict

    from ingest import audit

    with opened() as store:
        found = audit.verify(store, anchor=anchor)
    if found.ok:
        sentence = f"whole: {found.entries} entries, anchor {found.anchor}"
    else:
        sentence = f"BROKEN at entry {found.broken_at}: {found.why}"
    say(as_json, asdict(found), sentence)
    if not found.ok:
        raise typer.Exit(UNSOUND)


@app.command("show")
def show(
    subject: Annotated[str | None, typer.Argument(help="Only acts on this id.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """The latest acts, newest last."""
    from ingest import audit
    from serving.terminal import console, table

    with opened() as store:
        found = audit.entries(store, subject=subject, limit=limit)
    if as_json:
        from dataclasses import asdict

        say(True, [asdict(e) for e in found], "")
        return
    rows = [(e.seq, str(e.at)[:19], e.actor, e.act, e.subject, e.detail) for e in found]
    table(console(), ("#", "at", "actor", "act", "subject", "detail"), rows)
