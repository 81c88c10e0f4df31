"""`scarwise token`: who may call the API."""

from typing import Annotated

import typer

from serving.commands.options import ACTOR, AsJson, opened, say

app = typer.Typer(help="Create, list and revoke API tokens.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the audit trail will call the caller.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="read (default), write or admin; each includes the one before."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token; it is shown this once and kept nowhere."""
    from ingest import access

    with opened() as store:
        secret = access.create(store, name, scope or ["read"], actor=ACTOR)
    say(as_json, {"name": name, "token": secret}, secret)


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """Every token, revoked ones too; never a secret."""
    from dataclasses import asdict

    from ingest import access
    from serving.terminal import console, table

    with opened() as store:
        found = access.tokens(store)
    if as_json:
        say(True, [asdict(t) for t in found], "")
        return
    rows = [(t.name, ", ".join(t.scopes), t.created_at, t.revoked_at) for t in found]
    table(console(), ("name", "scopes", "created", "revoked"), rows)


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="The token's name.")], as_json: AsJson = False
) -> None:
    """Make a token useless from now on."""
    from ingest import access

    with opened() as store:
        access.revoke(store, name, actor=ACTOR)
    say(as_json, {"revoked": name}, f"token {name} revoked")
