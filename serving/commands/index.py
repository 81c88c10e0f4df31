"""`scarwise index`: how the derived index stands, and making it anew."""

from dataclasses import asdict
from typing import Any

import typer

from ingest.errors import Unavailable
from serving.commands.options import AsJson, loaded, say
from serving.running import running

app = typer.Typer(help="Status of the index; rebuild it.", no_args_is_help=True)


@app.command("status")
def status(as_json: AsJson = False) -> None:
    """How many incidents are indexed, what lags, and whether Chroma's copy is sound."""
    settings = loaded()
    there = running(settings.running)
    view = _from_service(there) if there else _from_here(settings)
    say(
        as_json,
        view,
        f"{view['incidents']} incidents indexed, {view['lag']} waiting; "
        f"embedder {view['embedder'] or 'none'}; Chroma's copy: {view['copy']}",
    )


@app.command("rebuild")
def rebuild(as_json: AsJson = False) -> None:
    """Write Chroma's copy anew from the vectors in the store; nothing is embedded again."""
    from serving.service import Service

    settings = loaded()
    if there := running(settings.running):
        from serving import client

        view = client.ask(there, "POST", "/v1/index/rebuild")
        say(as_json, view, f"{view['vectors']} vectors in a new generation")
        return
    service = Service.open(settings)
    try:
        service.warm(copy=True)
        if service.without_meaning:
            raise Unavailable(service.without_meaning)
        service.embed_all()
        vectors = service.index.rebuild()
    finally:
        service.close()
    say(as_json, {"vectors": vectors}, f"{vectors} vectors in a new generation")


def _from_service(there: Any) -> dict[str, Any]:
    from serving import client

    ready = client.ask(there, "GET", "/readyz")
    return {
        "incidents": ready["incidents"],
        "lag": ready["index_lag"],
        "embedder": ready["embedder"],
        "copy": ready["index"],
    }


def _from_here(settings: Any) -> dict[str, Any]:
    from serving.service import Service

    service = Service.open(settings)
    try:
        service.warm(copy=True)
        service.index.embed_some(0)
        service.index.tend()
        return asdict(service.index.condition())
    finally:
        service.close()
