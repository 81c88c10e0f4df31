"""Does an adapter beat copying, on real streams: eras learned one after another, then asked again.

    python -m benchmarks.streams [--streams fault_type,component,...] [--seeds 3] [--strategies ...]

R[i][j] is the share right on the test cases of era j after era i. The learner is a MiniLM with LoRA
and a head that grows (`stream_models`); beside it stands what needs no training, with the cases
stored so far (`stream_neighbours`). Settings were chosen by cross-validation within the training
cases of `fault_type`. Resumable: what a strategy and a seed said is kept in benchmarks/.cache.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import argparse
import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import stream_gate, stream_neighbours, stream_plots
from benchmarks.results import FOLDER, keep
from benchmarks.stream_cases import Case, Stream, read
from benchmarks.stream_models import Learner, Lines, Tuning
from benchmarks.stream_neighbours import CACHE, Scores, copied, votes
from benchmarks.stream_table import COPY, Arm, ends_at, figures, right, shown
from eval.statistics import wilson

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "dev" / "streams"
FORM = 1  # of what is kept in the cache: raised when a strategy comes to mean something else
TUNING = Tuning(epochs=8, learning_rate=5e-3)
MOST_REASONS = 4  # printed of each verdict; all are kept
HEAD_SHARE = 0.5  # of the served answer; the rest are the votes of the nearest cases


@dataclass(frozen=True, slots=True)
class Strategy:
    """What of the past is seen again with an era: a share of the new, or so many of each answer."""

    share: float = 0.0
    each: int = 0
    alpha: float = 1.0
    at_once: bool = False


STRATEGIES = {
    "naive": Strategy(),
    "random 10 %": Strategy(share=0.1),
    "random 25 %": Strategy(share=0.25),
    "random 100 %": Strategy(share=1.0),
    "balanced 4": Strategy(each=4),
    "balanced 4 with 0.85 ΔW": Strategy(each=4, alpha=0.85),
    "balanced 12": Strategy(each=12),
    "joint": Strategy(at_once=True),
}


def lesson(stream: Stream, era: int, strategy: Strategy, seed: int) -> list[Case]:
    """The training cases that a strategy sees in this era: the new ones and what it rehearses."""
    new = [case for case in stream.train if case.era == era]
    old = stream.upto(era - 1)
    rng = np.random.default_rng([seed, era])
    if strategy.at_once:
        return stream.upto(era)
    shuffled = [old[n] for n in rng.permutation(len(old))]
    if strategy.share:
        return new + shuffled[: round(strategy.share * len(new))]
    seen: dict[str, int] = {}
    again = []
    for case in shuffled:
        seen[case.answer] = seen.get(case.answer, 0) + 1
        if seen[case.answer] <= strategy.each:
            again.append(case)
    return new + again


@dataclass(frozen=True, slots=True)
class Said:
    """One learned model after every era: how sure it was, (eras, cases, answers), and its cost."""

    sure: npt.NDArray[np.float32]
    cpu_s: float
    mb: float
    seen: int  # cases, each counted as often as an era showed it


def learned(stream: Stream, lines: Callable[[], Lines], name: str, seed: int) -> Said:
    """The strategy through all eras, or what was kept of it; era by era no test label is read."""
    strategy = STRATEGIES[name]
    made = json.dumps([FORM, asdict(TUNING), asdict(strategy), [asdict(c) for c in stream.train],
                       [c.plain for c in stream.test]], sort_keys=True)  # fmt: skip
    digest = hashlib.sha256(made.encode()).hexdigest()[:12]
    path = CACHE / "streams" / f"{stream.name}-{digest}-{seed}.npz"
    if path.exists():
        kept = np.load(path)
        return Said(kept["sure"], float(kept["cpu_s"]), float(kept["mb"]), int(kept["seen"]))
    cached = lines()
    began = time.process_time()
    learner = Learner(cached, replace(TUNING, share=strategy.alpha), seed)
    last, seen = len(stream.eras), 0
    sure = np.zeros((last, len(stream.test), len(stream.answers)), np.float32)
    asked = [case.plain for case in stream.test]
    for era in [last] if strategy.at_once else range(1, last + 1):
        shown, store = lesson(stream, era, strategy, seed), [c.plain for c in stream.upto(era)]
        seen += len(shown)
        learner.learn([c.plain for c in shown], [c.answer for c in shown], store)
        columns = [stream.answers.index(answer) for answer in learner.answers]
        sure[era - 1][:, columns] = learner.sure(asked, store)
    cpu_s = time.process_time() - began
    mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(path, sure=sure, cpu_s=cpu_s, mb=mb, seen=seen)
    print(f"  {name}, seed {seed}: {cpu_s:.0f} CPU-s", flush=True)
    return Said(sure, cpu_s, mb, seen)


def chosen(sure: Scores, stream: Stream, known: Sequence[str]) -> list[str | None]:
    """The surest of the answers that are known by then and may be chosen; None where none may."""
    said: list[str | None] = []
    for row, case in zip(sure, stream.test, strict=True):
        fit = [n for n, a in enumerate(stream.answers)
               if a in known and (not case.choices or a in case.choices)]  # fmt: skip
        said.append(stream.answers[max(fit, key=lambda n: row[n])] if fit else None)
    return said


def untrained(stream: Stream) -> dict[str, list[list[str | None]]]:
    """By arm what each era's store answers every test case; each is kept once it is known."""
    path = _kept_at(stream, "untrained.json")
    found: dict[str, list[list[str | None]]] = {}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    for name, answered in _untrained_arms(stream).items():
        if name not in found:
            found[name] = [answered(stream.upto(n + 1)) for n in range(len(stream.eras))]
            path.write_text(json.dumps(found), encoding="utf-8")
            print(f"  {name}: {ends_at(stream, right(stream, found[name])):.3f}", flush=True)
    return found


Answering = Callable[[Sequence[Case]], list[str | None]]


def _untrained_arms(stream: Stream) -> dict[str, Answering]:
    raw = stream_neighbours.Meanings([c.text for c in (*stream.train, *stream.test)])
    clean = stream_neighbours.Meanings([c.plain for c in (*stream.train, *stream.test)])
    near = stream_neighbours

    def by_both(stored: Sequence[str], asked: Sequence[str]) -> Scores:
        return near.fused(near.by_bm25(stored, asked), raw.alone(stored, asked))

    return {
        "nearest: TF-IDF": _copying(stream, "text", near.by_tfidf),
        "nearest: BM25 (bm25s)": _copying(stream, "text", near.by_bm25),
        "nearest: MiniLM": _copying(stream, "text", raw.alone),
        "nearest: BM25 + MiniLM (RRF)": _copying(stream, "text", by_both),
        "nearest: the product's words": _copying(stream, "text", near.by_words),
        COPY: _copying(stream, "text", raw.ranked),
        "nearest, plain lines: TF-IDF": _copying(stream, "plain", near.by_tfidf),
        "nearest, plain lines: MiniLM": _copying(stream, "plain", clean.alone),
        "nearest, plain lines: the product's words": _copying(stream, "plain", near.by_words),
        "nearest, plain lines: the product's ranking": _copying(stream, "plain", clean.ranked),
        "softmax over words": _fitted(stream, "text"),
        "softmax over words, plain lines": _fitted(stream, "plain"),
    }


def _copying(stream: Stream, form: str, ranking: stream_neighbours.Ranking) -> Answering:
    def answered(store: Sequence[Case]) -> list[str | None]:
        asked = [getattr(case, form) for case in stream.test]
        scores = ranking([getattr(case, form) for case in store], asked)
        return copied(scores, [c.answer for c in store], [c.choices for c in stream.test])

    return answered


def _fitted(stream: Stream, form: str) -> Answering:
    def answered(store: Sequence[Case]) -> list[str | None]:
        answers = [case.answer for case in store]
        asked = [getattr(case, form) for case in stream.test]
        stored = [getattr(case, form) for case in store]
        sure = stream_neighbours.softmax_over_words(stored, answers, asked, stream.answers)
        return chosen(sure, stream, answers)

    return answered


def neighbours(stream: Stream) -> list[Scores]:
    """After each era: the votes of the stored cases, as the product ranks their plain lines."""
    path = _kept_at(stream, f"votes-{stream_neighbours.TEMPERATURE:g}.npz")
    if path.exists():
        return list(np.load(path)["votes"])
    clean = stream_neighbours.Meanings([c.plain for c in (*stream.train, *stream.test)])
    found = []
    for era in range(1, len(stream.eras) + 1):
        store = stream.upto(era)
        scores = clean.ranked([c.plain for c in store], [c.plain for c in stream.test])
        found.append(votes(scores, [c.answer for c in store], stream.answers))
    np.savez(path, votes=np.stack(found))
    return found


def _kept_at(stream: Stream, what: str) -> Path:
    """Where what these very cases give is kept."""
    made = json.dumps([FORM, [asdict(c) for c in (*stream.train, *stream.test)]])
    digest = hashlib.sha256(made.encode()).hexdigest()[:12]
    return CACHE / "streams" / f"{stream.name}-{digest}-{what}"


def measured(stream: Stream, strategies: Sequence[str], seeds: int) -> dict[str, Arm]:
    """Every arm on this stream."""
    made: list[Lines] = []

    def lines() -> Lines:
        if not made:
            made.append(Lines([c.plain for c in (*stream.train, *stream.test)]))
        return made[0]

    found = {name: Arm([said]) for name, said in untrained(stream).items()}
    beside = neighbours(stream)
    known = [[c.answer for c in stream.upto(era)] for era in range(1, len(stream.eras) + 1)]
    for name in strategies:
        runs = [learned(stream, lines, name, seed) for seed in range(seeds)]
        cost = (fmean(r.cpu_s for r in runs), max(r.mb for r in runs), runs[0].seen)
        for words, share in ((name, 1.0), (f"{name} + neighbours", HEAD_SHARE)):
            said = [[chosen(share * now + (1 - share) * near, stream, seen)
                     for now, near, seen in zip(run.sure, beside, known, strict=True)]
                    for run in runs]  # fmt: skip
            found[words] = Arm(said, _serving(runs[0], share, beside, stream, known), *cost)
    return found


def _serving(
    run: Said,
    share: float,
    beside: Sequence[Scores],
    stream: Stream,
    known: Sequence[Sequence[str]],
) -> Callable[[int, int], list[str | None]]:
    return lambda of, by: chosen(
        share * run.sure[of - 1] + (1 - share) * beside[by - 1], stream, known[by - 1]
    )


def is_choice(stream: Stream) -> bool:
    """Whether answers are letters of what may be chosen: then there is nothing to remember."""
    return all(case.choices and case.answer not in case.choices for case in stream.test)


def most_alike(stream: Stream) -> dict[str, Any]:
    """How often the choice is right that shares most with the question, by TF-IDF cosine."""
    hits = 0
    for case in stream.test:
        [scores] = stream_neighbours.by_tfidf(case.choices, [case.text])
        hits += "ABCDEFGH"[int(scores.argmax())] == case.answer
    n, within = len(stream.test), wilson(hits, len(stream.test))
    print(f"{stream.name}: {hits} of {n} right by word overlap, {hits / n:.3f} "
          f"[{within.low:.2f}, {within.high:.2f}]; one in four by chance")  # fmt: skip
    return {"arm": "most alike by TF-IDF", "ACC": hits / n, "low": within.low, "high": within.high}


def _keep(command: str, told: Mapping[str, list[dict[str, Any]]]) -> None:
    """Beside what other runs found of other streams, each with the command that made it."""
    path = FOLDER / "streams.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    commands = kept.get("commands", {}) | dict.fromkeys(told, command)
    keep("streams", command, {"commands": commands, "streams": kept.get("streams", {}) | told})


def main() -> int:
    """0 where the data is missing, too: then it says that nothing was measured."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--streams", default="fault_type")
    words.add_argument("--strategies", default=",".join(STRATEGIES))
    words.add_argument("--seeds", type=int, default=3)
    asked = words.parse_args()
    if not DATA.is_dir():
        print(f"skipped: there is no {DATA}")
        return 0
    import torch

    torch.set_num_threads(1)
    wanted = [n for n in STRATEGIES if n in asked.strategies.split(",")]
    command = (
        f"python -m benchmarks.streams --streams {asked.streams} --seeds {asked.seeds} "
        f"--strategies '{','.join(wanted)}'"
    )
    told: dict[str, list[dict[str, Any]]] = {}
    for name in asked.streams.split(","):
        stream = read(DATA / name)
        if is_choice(stream):
            told[name] = [most_alike(stream)]
            _keep(command, told)
            continue
        print(f"{name}: {len(stream.train)} to learn, {len(stream.test)} asked", flush=True)
        arms = measured(stream, wanted, asked.seeds)
        lines = figures(stream, arms)
        gates = stream_gate.judged(stream, arms, COPY)
        for line in lines:
            if line["arm"] in gates:
                line["gate"], line["reasons"] = gates[line["arm"]]
        told[name] = lines
        _keep(command, told)
        stream_plots.draw(name, stream.eras, lines)
        print(f"\n{name}\n{shown(lines)}\n", flush=True)
        for line in lines:
            for reason in line.get("reasons", [])[:MOST_REASONS]:
                print(f"- {line['arm']}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
