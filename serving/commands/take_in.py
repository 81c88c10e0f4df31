"""`scarwise ingest`: other people's files into the store."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ingest.errors import Refused
from ingest.incident import Incident
from serving.commands.bar import Bar
from serving.commands.options import ACTOR, AsJson, loaded, say
from serving.running import running

BATCH = 200  # incidents a transaction: fsync costs little, a reader waits little
PARTLY = 3


def install(app: typer.Typer) -> None:
    app.command("ingest")(ingest)


def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    kind: Annotated[
        str, typer.Option(help="The format, when it should not be guessed; see `ingest --kinds`.")
    ] = "auto",
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="For CSV: FIELD=COLUMN or FIELD==CONSTANT, such as title=short_description.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep the incidents in these files; the same ones again are left as they are.

    A record that cannot be taken is named with its file, line and field; the rest goes in, and
    the exit code is 3.
    """
    from ingest import importer
    from ingest.columns import check_map
    from serving.service import Service
    from serving.terminal import notices

    columns = _columns(column or [])
    check_map(columns)
    found, left_out = importer.find(paths, kind=kind)
    service = Service.open(loaded())
    tally: Counter[str] = Counter()
    refused = [str(r) for r in left_out if not r.skipped]
    skipped = [str(r) for r in left_out if r.skipped]
    with Bar("reading", sum(f.size for f in found)) as bar:
        for file in found:
            bar.named(Path(file.path).name)
            records = importer.read(
                file, columns=columns, now=service.store.clock(), on_bytes=bar.forward
            )
            for batch in _batches(records, refused):
                for receipt in service.store.put(batch, actor=ACTOR):
                    tally[receipt.outcome] += 1
                    if receipt.outcome == "refused":
                        refused.append(f"{file.path}: {receipt.id}: {receipt.why}")
                bar.note(f"{sum(tally.values())} incidents")
    out = notices()
    for line in skipped:
        out.print(f"skipped  {line}", style="dim", markup=False)
    for line in refused:
        out.print(f"refused  {line}", style="yellow", markup=False)
    embedded = _embed(service)
    service.close()
    view: dict[str, Any] = {
        "files": len(found),
        "stored": tally["stored"],
        "unchanged": tally["unchanged"],
        "quarantined": tally["quarantined"],
        "refused": refused,
        "skipped": skipped,
        "embedded": embedded,
    }
    say(as_json, view, _sentence(view))
    if refused:
        raise typer.Exit(PARTLY)


def _sentence(view: dict[str, Any]) -> str:
    counts = ", ".join(f"{view[k]} {k}" for k in ("stored", "unchanged", "quarantined"))
    text = f"{counts}, {len(view['refused'])} refused, from {view['files']} files"
    if view["quarantined"]:
        text += "; look at `scarwise incidents list --trust quarantined`"
    return text


def _batches(records: Iterator[Any], refused: list[str]) -> Iterator[list[Incident]]:
    batch: list[Incident] = []
    for record in records:
        if not isinstance(record, Incident):
            refused.append(str(record))
            continue
        batch.append(record)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _embed(service: Any) -> int:
    """Embed here, unless a running service of this data folder does it anyway."""
    if running(service.settings.running):
        return 0
    service.index.follow()
    if not service.index.unembedded():
        return 0
    with Bar("embedding", None) as bar:
        service.warm(progress=lambda p: bar.note(p.step))
        return int(service.embed_all(lambda p: bar.at(p.done, p.total)))


def _columns(pairs: list[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        field, equals, name = pair.partition("=")
        if not equals or not field or not name:
            raise Refused(f"--map {pair}: expected FIELD=COLUMN, such as title=short_description")
        columns[field.strip()] = name.strip()
    return columns
