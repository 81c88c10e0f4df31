"""`scarwise incidents`: look at what is kept, let it be found, or forget it."""

from typing import Annotated

import typer

from serving.commands.options import ACTOR, AsJson, Reason, Yes, confirmed, loaded, opened, say

app = typer.Typer(help="List, show, release from quarantine, forget.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The incident's id, inc-...")]


@app.command("list")
def listed(
    service: Annotated[str | None, typer.Option("--service", "-s")] = None,
    source: Annotated[str | None, typer.Option()] = None,
    trust: Annotated[str | None, typer.Option(help="trusted or quarantined.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000)] = 50,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is kept, the newest start first."""
    from ingest.errors import Refused
    from serving.terminal import console, table

    if trust not in (None, "trusted", "quarantined"):
        raise Refused(f"--trust {trust}: expected trusted or quarantined")
    with opened() as store:
        found = store.page(
            after=after,
            limit=limit,
            service=service,
            source=source,
            trust=trust,  # type: ignore[arg-type]
        )
    if as_json:
        rows = [{**s.incident.model_dump(mode="json"), "quarantine": s.quarantine} for s in found]
        say(True, rows, "")
        return
    columns = ["id", "started", "severity", "services", "title"]
    if trust == "quarantined":
        columns.append("why kept out")
    cells = []
    for s in found:
        i = s.incident
        row = [i.id, str(i.started_at or "")[:16], i.severity, ", ".join(i.services), i.title]
        cells.append(row + (["; ".join(s.quarantine)] if trust == "quarantined" else []))
    table(console(), columns, cells)


@app.command("show")
def show(incident_id: Id, as_json: AsJson = False) -> None:
    """One incident with its versions, verdicts and lineage."""
    from serving.service import kept_about
    from serving.terminal import console, show_incident

    with opened() as store:
        view = kept_about(store, incident_id)
    if as_json:
        say(True, view, "")
    else:
        show_incident(console(), view)


@app.command("release")
def release(incident_id: Id, reason: Reason = "not said", as_json: AsJson = False) -> None:
    """Let a quarantined incident be found."""
    with opened() as store:
        store.release(incident_id, actor=ACTOR, reason=reason)
    say(as_json, {"released": incident_id}, f"{incident_id} released; it is found from now on")


@app.command("forget")
def forget(
    incident_id: Id, reason: Reason = "not said", yes: Yes = False, as_json: AsJson = False
) -> None:
    """Remove every version, verdict and vector of it, every file that quotes it; for good.

    Models that it taught are tainted: they go on to be served until somebody rolls back.
    """
    from serving.forgetting import remove_forgotten
    from training.registry import adapters_of

    with opened() as store:
        title = store.get(incident_id).incident.title
        confirmed(yes, f"Forget {incident_id} ({title}) for good?")
        adapters = adapters_of(store, incident_id)
        store.forget(incident_id, actor=ACTOR, reason=reason)
        remove_forgotten(store, loaded())
    sentence = f"{incident_id} forgotten"
    if adapters:
        sentence += f"; tainted, because it taught them: {', '.join(adapters)}"
    say(as_json, {"forgotten": incident_id, "tainted": adapters}, sentence)
