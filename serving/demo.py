"""The main job, shown: the shipped incidents go in, two alerts arrive, one of them is new."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from ingest import importer
from ingest.incident import Incident
from ingest.sources.alert import read_alert
from retrieval.search import Question
from serving import settings
from serving.service import Progress, Service
from serving.terminal import console, notices, show_diagnosis
from serving.wire import LONGEST_QUESTION

SAMPLES = Path(__file__).parent / "samples"


def run(*, pause: bool = False) -> None:
    """The whole demonstration, in a data folder of its own that is thrown away afterwards."""
    out = console()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="scarwise-demo-") as folder:
        service = _service(Path(folder))
        try:
            _take_in(out, service)
            _step(pause)
            _arrives(out, service, "recurrence.json", "An alert arrives. Have we seen this?")
            _step(pause)
            _arrives(out, service, "never-seen.json", "Another alert. This one is new.")
        finally:
            service.close()
    took = time.perf_counter() - began
    out.print(Rule(style="dim"))
    out.print(
        f"That took {took:.0f} s. With your own: `scarwise ingest YOUR-INCIDENTS` and `scarwise "
        "serve` (or `make serve`), then open http://127.0.0.1:8420"
    )
    out.print()


def _service(folder: Path) -> Service:
    # The exported model is worth keeping from one demonstration to the next; the data is not.
    models = settings.home() / "models"
    service = Service.open(
        settings.load(SCARWISE_HOME=str(folder), SCARWISE_RETRIEVAL_MODELS=str(models))
    )
    with notices().status("starting") as status:

        def show(progress: Progress) -> None:
            status.update(progress.step)

        service.warm(progress=show)
    return service


def _take_in(out: Console, service: Service) -> None:
    incidents = list(_samples())
    title = f"{len(incidents)} incidents of a shop called Harbour go in"
    out.print(Rule(title, align="left"))
    tally: Counter[str] = Counter()
    redacted: Counter[str] = Counter()
    quarantined: list[str] = []
    for receipt in service.store.put(incidents, actor="demo"):
        tally[receipt.outcome] += 1
        stored = service.store.get(receipt.id)
        redacted.update(stored.redactions)
        if receipt.outcome == "quarantined":
            quarantined += [f"{stored.incident.title}: {why}" for why in stored.quarantine[:1]]
    with notices().status("embedding") as status:
        service.embed_all(lambda p: status.update(f"{p.step} {p.done} of {p.total}"))
    out.print(f"{tally['stored']} kept and embedded, from JSON lines, Markdown and CSV")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(redacted.items()))
    out.print(f"replaced before anything was written: {kinds or 'nothing'}")
    for line in quarantined:
        out.print(Text(f"kept out until a person releases it: {line}", style="yellow"))
    out.print()


def _samples() -> Iterator[Incident]:
    found, _ = importer.find([str(SAMPLES / "incidents")])
    for file in found:
        for record in importer.read(file):
            assert isinstance(record, Incident), record
            yield record


def _arrives(out: Console, service: Service, name: str, title: str) -> None:
    payload = json.loads((SAMPLES / "alerts" / name).read_text(encoding="utf-8"))
    alert = read_alert(payload)
    out.print(Rule(title, align="left"))
    out.print(Panel(Text(alert.text), title=name, title_align="left", border_style="red"))
    question = Question(text=alert.text[:LONGEST_QUESTION], services=(), severity=None, limit=5)
    show_diagnosis(out, service.diagnose(question).model_dump(mode="json"))
    out.print()


def _step(pause: bool) -> None:
    if pause:
        input("Enter to go on ")
