"""The replay suite: cases frozen once, asked of every model, and never learned from.

`suite/v<N>/` holds `cases.jsonl`, with every prompt as it is asked, and `manifest.json`, written
last: a folder without one was never finished. Replaying needs neither the store nor the index.

    SuiteUnsound            (Unreadable) a frozen version is not what its manifest says
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from pydantic import Field, ValidationError

from eval.cases import Case, known_to_training, of_incidents
from eval.probes import MEANING, Meaning, probes
from eval.score import Arm, Record, Slice
from ingest.errors import Refused, Unreadable
from ingest.lessons import embargoed
from ingest.store import Store
from retrieval.index import Index
from retrieval.prompt import prompt_hash
from training.folders import whole

# A line is added whenever a score means something else than before; a suite carries the last one.
SUITE_MEANING = [
    (1, date(2026, 11, 27), "the first"),
    (2, date(2026, 11, 27), "says what the search found novel; asks for choices; 38 more attacks"),
]
CASES, MANIFEST = "cases.jsonl", "manifest.json"
_INCIDENT = re.compile(rb"inc-[0-9a-f]{16}")


class SuiteUnsound(Unreadable):
    """A frozen version is not what its manifest says."""


class Manifest(Record):
    """What a frozen version holds; `sha256` is of the bytes of its cases."""

    version: int
    meaning: int
    meaning_since: date
    meaning_line: str
    sha256: str
    prompt_hash: str
    embedder: str | None
    cases: int
    cohorts: dict[str, dict[str, int]]  # cohort: task: how many
    left_out: dict[str, int]
    meanings: dict[str, Meaning] = Field({})  # of cohorts that are no era; none in meaning 1


@dataclass(frozen=True, slots=True)
class Suite:
    """One frozen version, verified when it was read; `folder` holds it and the other versions."""

    manifest: Manifest
    cases: tuple[Case, ...]
    folder: Path | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return f"v{self.manifest.version}"

    def of(self, arm: Arm, slice: Slice | None = None) -> list[Case]:
        """The cases that are asked in this arm, of one slice or of both."""
        return [c for c in self.cases if arm in c.asked and slice in (None, c.slice)]


def frozen(store: Store, index: Index, folder: Path, *, version: int) -> Suite:
    """Version `version` in `folder`: read where it is already, else made of the store's embargo.

    It holds the probes and every case that is under embargo for this version or an earlier one;
    what was forgotten is none any more. The store is only read. Raises `Refused` when there is no
    case, and while incidents wait to be embedded: what is shown would depend on the moment.
    """
    if (folder / f"v{version}" / MANIFEST).exists():
        return read_suite(folder, version)
    index.follow()
    if index.awaits_meaning and (waiting := index.unembedded()):
        raise Refused(f"{waiting} incidents wait to be embedded; freeze suite v{version} then")
    cases = {id: case for id, case in embargoed(store).items() if case.suite <= version}
    if not cases:
        raise Refused(f"no incident is under embargo for suite v{version}; split the data first")
    known = known_to_training(store, index, cases)
    told, left_out = of_incidents(store, index, cases, known)
    told += probes(index, hidden=known.hidden, seed=_seed(version, cases))
    embedder = index.embedder.model_id if index.embedder else None
    _keep(folder, version, told, embedder, left_out)
    return read_suite(folder, version)


def read_suite(folder: Path, version: int) -> Suite:
    """A frozen version; `Refused` when it is not there, `SuiteUnsound` when it was changed."""
    place = folder / f"v{version}"
    try:
        manifest = Manifest.model_validate_json((place / MANIFEST).read_bytes())
        raw = (place / CASES).read_bytes()
    except FileNotFoundError:
        raise Refused(f"there is no suite v{version} in {folder}; freeze it first") from None
    except (ValidationError, OSError) as error:
        why = str(error).splitlines()[0]
        raise SuiteUnsound(f"suite v{version} cannot be read ({why}); restore it") from None
    if hashlib.sha256(raw).hexdigest() != manifest.sha256:
        raise SuiteUnsound(
            f"suite v{version} was changed after it was frozen: {place / CASES} has another hash "
            "than its manifest; restore it, or freeze the next version"
        )
    cases = tuple(Case.model_validate_json(line) for line in raw.splitlines())
    return Suite(manifest, cases, folder)


def suite_versions(folder: Path) -> list[int]:
    """The versions that are frozen in this folder, in order."""
    names = [path.parent.name[1:] for path in folder.glob(f"v*/{MANIFEST}")]
    return sorted(int(name) for name in names if name.isdigit())


def quoting(folder: Path, incident_ids: Collection[str]) -> list[Path]:
    """The folders of all versions that quote any of these incidents, unfinished ones too."""
    wanted = set(incident_ids)
    found = []
    for cases in sorted(folder.glob(f"v*/{CASES}")):
        # Read as text: what is damaged, or of an older form, is to be found as well.
        if wanted & named_in(cases):
            found.append(cases.parent)
    return found


def remove_quoting(folder: Path, *incident_ids: str) -> list[int]:
    """Delete every frozen version that quotes one of these incidents; which those were.

    For incidents that were forgotten, be they cases or only shown as precedents: the next version
    is frozen without them. Cut off, the next call deletes the rest.
    """
    removed = []
    for place in quoting(folder, incident_ids):
        if (place / MANIFEST).exists():
            removed.append(int(place.name[1:]))
        # Without a manifest it is no version, even where the rest of the deletion is cut off.
        (place / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(place)
    return sorted(removed)


def named_in(file: Path) -> set[str]:
    """The ids of all incidents that this file names; none when it is gone meanwhile."""
    with suppress(FileNotFoundError):
        return {found.decode() for found in _INCIDENT.findall(file.read_bytes())}
    return set()


def _keep(
    folder: Path,
    version: int,
    cases: Sequence[Case],
    embedder: str | None,
    left_out: Mapping[str, int],
) -> None:
    lines = [case.model_dump_json(exclude_defaults=True) + "\n" for case in cases]
    raw = "".join(lines).encode()
    meaning, since, line = SUITE_MEANING[-1]
    manifest = Manifest(
        version=version,
        meaning=meaning,
        meaning_since=since,
        meaning_line=line,
        sha256=hashlib.sha256(raw).hexdigest(),
        prompt_hash=prompt_hash(),
        embedder=embedder,
        cases=len(cases),
        cohorts=_counts(cases),
        left_out=dict(left_out),
        meanings={name: lines[-1] for name, lines in MEANING.items()},
    )
    with whole(folder / f"v{version}") as draft:
        (draft / CASES).write_bytes(raw)
        told = json.dumps(manifest.model_dump(mode="json"), indent=2)
        (draft / MANIFEST).write_text(told + "\n", encoding="utf-8")


def _counts(cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        counts.setdefault(case.cohort, Counter())[case.expected.task] += 1
    return {cohort: dict(tasks) for cohort, tasks in counts.items()}


def _seed(version: int, ids: Iterable[str]) -> str:
    return hashlib.sha256(" ".join([str(version), *sorted(ids)]).encode()).hexdigest()
