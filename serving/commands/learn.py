"""`scarwise base build`, `train` and `retrain`: the learning loop from the command line."""

from typing import TYPE_CHECKING, Annotated

import typer

from serving.commands.options import ACTOR, AsJson, loaded, say

if TYPE_CHECKING:
    from serving.retrain import Ended

base = typer.Typer(help="The offline base model: made here, from nothing.", no_args_is_help=True)

RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="tiny, naive, lora, or a TOML file; else as set.")
]


def install(app: typer.Typer) -> None:
    app.command("train")(train)
    app.command("retrain")(retrain)
    app.add_typer(base, name="base")


@base.command("build")
def build(as_json: AsJson = False) -> None:
    """Make the small base that needs no download, from an invented world; minutes, once.

    It proves that the loop works. It knows nothing of real incidents.
    """
    from serving.learning import built, said_of_base

    made, fresh = built(loaded())
    view = {"base": made.hash, "folder": str(made.folder), "fresh": fresh, "cost": made.cost}
    say(as_json, view, said_of_base(made, fresh))


def train(recipe: RecipeName = None, as_json: AsJson = False) -> None:
    """Train an adapter on the newest dataset; nothing judges it.

    For trying recipes: what is to be served goes through `retrain`.
    """
    from serving.learning import trained_alone

    made = trained_alone(loaded(), recipe)
    cost = made.cost
    say(
        as_json,
        {"run": made.name, "folder": str(made.folder), "mixture": made.mixture, "cost": cost},
        f"{made.name}: {made.mixture['rows']} rows, {cost['steps']} steps, loss "
        f"{cost['loss']:.3f}, {cost['cpu_s']:.0f} CPU-seconds; {made.folder / 'adapter'}",
    )


def retrain(
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Only when enough is new; for cron and timers.")
    ] = False,
    recipe: RecipeName = None,
    as_json: AsJson = False,
) -> None:
    """One turn of the loop, from new incidents to a verdict.

    Keeps cases out, exports, trains, replays, judges, registers. Finishes the turn that was cut
    off, if there is one. Promotion is a person's (`scarwise promote`), unless training.auto_promote
    is on. Exit codes: 0 promoted, 10 passed and waiting for a person, 11 held, 12 inconclusive, 13
    too little to learn from, 14 not due, 15 another run is on, 16 diverged, 17 overtaken by a
    person who moved the pointer meanwhile, 143 stopped by SIGTERM (the next one goes on).
    """
    from serving.learning import turn
    from serving.retrain import summary

    ended = turn(loaded(), actor=ACTOR, if_due=if_due, recipe=recipe)
    say(as_json, summary(ended), _sentence(ended))
    raise typer.Exit(ended.exit_code)


def _sentence(ended: "Ended") -> str:
    name = f"diag-v{ended.version}: " if ended.version else ""
    lines = [f"{ended.outcome.upper()}  {name}{ended.words}"]
    if ended.examined:
        lines.append(f"report: {ended.examined.folder / 'gate.md'}")
    if ended.outcome == "passed":
        lines.append(f"to serve it: scarwise promote {ended.version} --reason ...")
    if ended.waits_for_mlflow:
        lines.append(f"MLflow is told later: {ended.waits_for_mlflow}")
    return "\n".join(lines)
