"""Ten thousand incidents to measure with: real public ones where they are at hand, else generated.

The real ones are read from `../shared/data/dev` beside the checkout and never copied; each is
taken more than once with some of its words changed, so that no text occurs twice.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from ingest.importer import Found, read
from ingest.incident import Incident

REAL = Path(__file__).parents[2] / "shared" / "data" / "dev" / "incidents.jsonl"
SAMPLES = Path(__file__).parents[1] / "serving" / "samples" / "incidents.jsonl"


def incidents(count: int, *, seed: int = 7) -> list[Incident]:
    """`count` incidents with distinct texts; the same for the same seed."""
    originals = list(_originals())
    rng = random.Random(seed)
    return [_varied(originals[n % len(originals)], n, rng) for n in range(count)]


def origin() -> str:
    """Where the texts come from, for the results."""
    return "public incidents" if REAL.exists() else "shipped samples"


def questions(count: int, *, words: int = 45, seed: int = 11) -> list[str]:
    """Texts of about 64 word pieces, each the opening of another incident."""
    rng = random.Random(seed)
    texts = [f"{i.title}. {i.symptoms or i.summary or ''}" for i in _originals()]
    long = [t for t in texts if len(t.split()) >= words]
    return [" ".join(t.split()[:words]) for t in rng.sample(long, min(count, len(long)))]


def _originals() -> Iterator[Incident]:
    path = REAL if REAL.exists() else SAMPLES
    kind = "archive" if REAL.exists() else "native"
    for record in read(Found(path, kind, path.stat().st_size, path.name)):
        if isinstance(record, Incident):
            yield record


def _varied(incident: Incident, n: int, rng: random.Random) -> Incident:
    data = json.loads(incident.model_dump_json(exclude_none=True))
    marks = " ".join(f"{rng.choice('abcdefghkmnp')}{rng.randrange(10_000)}" for _ in range(3))
    data |= {"source_id": f"{incident.source_id}-{n}", "title": f"{incident.title[:400]} {marks}"}
    return Incident.model_validate(data)
