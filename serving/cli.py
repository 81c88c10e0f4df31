"""The command line: `scarwise`.

Exit codes: 0 done; 1 a fault of ours; 2 refused, what was given is wrong; 3 done in part, some
records were refused; 4 unavailable, the store or the service cannot serve it now; 5 not sound,
what was checked is broken.
"""

import sys
from typing import Annotated

import typer

from ingest.errors import Refused, Unavailable
from serving.commands import (
    ask,
    audit,
    backtest,
    dataset,
    evaluate,
    incidents,
    index,
    learn,
    look,
    machine,
    models,
    take_in,
    token,
    verdicts,
)
from serving.settings import without_telemetry

OK, FAULT, REFUSED, PARTLY, UNAVAILABLE, UNSOUND = range(6)

app = typer.Typer(
    name="scarwise",
    help="An incident memory: have we seen this, what was it, what fixed it, did that hold, "
    "and what is different this time?",
    epilog="Exit codes: 0 done, 1 a fault of ours, 2 refused, 3 done in part, 4 unavailable, "
    "5 not sound.  Data folder: SCARWISE_HOME.",
    no_args_is_help=True,
    context_settings={"max_content_width": 100},
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

for module in (machine, take_in, ask, verdicts, models, evaluate, backtest, learn, look):
    module.install(app)
app.add_typer(incidents.app, name="incidents")
app.add_typer(index.app, name="index")
app.add_typer(dataset.app, name="dataset")
app.add_typer(audit.app, name="audit")
app.add_typer(token.app, name="token")


@app.callback(invoke_without_command=True)
def _version(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"scarwise {installed('scarwise')}")
        raise typer.Exit


def main() -> None:
    """Run one command; an error that we named is one line on stderr, anything else a traceback."""
    without_telemetry()
    try:
        app(prog_name="scarwise")
    except Refused as error:
        _say(error)
        sys.exit(REFUSED)
    except Unavailable as error:
        _say(error)
        sys.exit(UNAVAILABLE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(OK)


def _say(error: Exception) -> None:
    print(f"scarwise: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
