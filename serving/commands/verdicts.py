"""`scarwise feedback`: a verdict on an answer, given or taken back."""

from typing import Annotated

import typer

from serving.commands.options import ACTOR, AsJson, Reason, opened, say

commands = typer.Typer(
    help="Say whether a precedent was the same, and whether its fix worked.", no_args_is_help=True
)


def install(app: typer.Typer) -> None:
    app.add_typer(commands, name="feedback")


@commands.command("give")
def give(
    incident_id: Annotated[str, typer.Argument(help="The incident judged.")],
    verdict: Annotated[
        str, typer.Argument(help="same, related, wrong, stale, fixed_it or did_not_fix.")
    ],
    query: Annotated[
        str | None, typer.Option("--query", "-q", help="The query_id of the answer judged.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="The version judged; else the current.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="What the next person should know.")] = None,
    who: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge one incident as an answer; the next ranking shows it."""
    from ingest import feedback
    from serving import body
    from serving.wire import FeedbackRequest

    asked = body.as_model(
        FeedbackRequest,
        {
            "incident_id": incident_id, "verdict": verdict, "query_id": query,
            "version": version, "note": note, "who": who,
        },
    )  # fmt: skip
    with opened() as store, store.transaction(ACTOR) as writing:
        kept = feedback.give(writing, feedback.Feedback(**asked.model_dump()))
    say(
        as_json,
        kept.model_dump(mode="json"),
        f"{kept.id}: {verdict} on {incident_id} version {kept.version}; "
        f"take it back with `scarwise feedback withdraw {kept.id}`",
    )


@commands.command("withdraw")
def withdraw(
    feedback_id: Annotated[str, typer.Argument(help="The verdict's id, fb-...")],
    reason: Reason = "not said",
    as_json: AsJson = False,
) -> None:
    """Take a verdict back; it counts no more."""
    from ingest import feedback

    with opened() as store, store.transaction(ACTOR) as writing:
        feedback.withdraw(writing, feedback_id, reason=reason)
    say(as_json, {"withdrawn": feedback_id}, f"{feedback_id} withdrawn")


@commands.command("list")
def listed(
    incident_id: Annotated[str | None, typer.Argument(help="Only on this incident.")] = None,
    as_json: AsJson = False,
) -> None:
    """The verdicts that stand."""
    from ingest import feedback
    from serving.terminal import console, table

    with opened() as store:
        found = feedback.given(store, incident_id=incident_id)
    if as_json:
        say(True, [f.model_dump(mode="json") for f in found], "")
        return
    rows = [(f.id, f.incident_id, f.version, f.verdict, f.who, f.when, f.note) for f in found]
    table(console(), ("id", "incident", "version", "verdict", "who", "when", "note"), rows)
