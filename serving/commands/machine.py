"""`scarwise serve`, `settings`, `doctor` and `demo`: the product on this machine."""

from typing import Annotated

import typer

from serving.commands.options import AsJson, loaded, say

UNSOUND = 5


def install(app: typer.Typer) -> None:
    app.command("serve")(serve)
    app.command("demo")(demo)
    app.command("doctor")(doctor)
    app.command("settings")(show_settings)


def serve(
    host: Annotated[str | None, typer.Option(help="Loopback unless a token exists.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
) -> None:
    """Answer over HTTP: API, metrics and web console; stops with Ctrl-C."""
    from serving.server import run

    run(loaded(), host=host, port=port)


def demo(
    pause: Annotated[bool, typer.Option(help="Wait for Enter between the steps.")] = False,
    learning: Annotated[bool, typer.Option(help="The learning loop too: some minutes.")] = True,
) -> None:
    """It answers (a minute), then it learns (some minutes), each in a folder of its own.

    Sixty shipped incidents, one alert seen before, one never seen. Then an invented year: a
    careless adapter is held by the gate, one that rehearsed is promoted and answers.
    """
    from serving.demo import run

    run(pause=pause)
    if learning:
        from serving import demo_loop

        demo_loop.run()


def doctor(as_json: AsJson = False) -> None:
    """Look at everything that can be wrong here, and say what to do about it."""
    from serving.doctor import findings
    from serving.terminal import console, table

    found = findings(loaded())
    if as_json:
        say(True, [{"check": f.check, "ok": f.ok, "found": f.found, "do": f.do} for f in found], "")
    else:
        rows = [("ok" if f.ok else "LOOK", f.check, f.found, f.do) for f in found]
        table(console(), ("", "check", "found", "what to do"), rows)
    if not all(f.ok for f in found):
        raise typer.Exit(UNSOUND)


def show_settings(as_json: AsJson = False) -> None:
    """The settings that hold now, as a file to start from, each with its reason."""
    from serving import settings

    found = settings.load()
    say(as_json, found.model_dump(mode="json"), settings.as_toml(found).rstrip())
