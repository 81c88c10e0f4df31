"""`scarwise mlflow`: tell MLflow what it does not know yet, and say where to look."""

import typer

from serving.commands.options import AsJson, loaded, opened, say


def install(app: typer.Typer) -> None:
    app.command("mlflow")(look)


def look(as_json: AsJson = False) -> None:
    """Tell MLflow what waits and who is champion now; the pages to look at.

    A retraining does so by itself. After a promotion, a rollback or a forgetting this does at once.
    """
    from serving.turn import place_of
    from training import tracking

    place = place_of(loaded())
    with opened() as store:
        told = tracking.flush(place, store)
        beside = tracking.shown(place, tracking.standing(store))
        runs = tracking.runs_page(place)
    compare = tracking.compare_url(place, beside) if len(beside) > 1 else None
    view = {
        "told": [one.run for one in told],
        "command": place.command or None,
        "runs": runs,
        "compare": compare,
    }
    lines = [f"MLflow at {place.named} knows all of it; {len(told)} told just now"]
    lines += [f"to see it: {place.command}"] if place.command else []
    lines += [f"runs with verdicts and figures: {runs}"]
    lines += [f"base, previous, champion, challenger: {compare}"] if compare else []
    say(as_json, view, "\n".join(lines))
