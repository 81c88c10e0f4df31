"""How much of what must not be kept is found, and how much of the rest is touched.

Run `python -m benchmarks.redaction`; results in `benchmarks/results/redaction.json`. A secret
counts as found when no occurrence of it is left, and a clean line as touched when one character of
it changed. Fails below the figures it is held to.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from benchmarks import results
from benchmarks.planted import Case, clean_lines, secrets
from ingest.redact import redact_text

LEAST = {"format": 0.99, "context": 0.95, "personal": 0.95}
MOST_TOUCHED = 0.005
MOST_MS_PER_LINE = 1.0
MOST_S_PER_HOSTILE_MB = 2.0  # our own shortest words back to back are the worst of them

# A megabyte of one thing over and over.
HOSTILE = """
a 1 = @ a@ a. a.b@ :// ://a: ://a:b@ eyJ eyJabcdefghij. -----BEGIN -----BEGIN_RSA_PRIVATE_KEY-----
password= password:_ password token_ secret:x sk- ghp_ AKIA xoxb- glpat- +1_ 4111_ DE00 cookie:_a=
authorization:_bearer_ "'` ([{< \\ <EMAIL:1> Secret: key= MIIE --- %3D
""".split()


def main() -> int:
    """Print and keep the figures; 1 when one falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=20260304)
    parser.add_argument("--each", type=int, default=40, help="cases per kind")
    parser.add_argument("--show", action="store_true", help="what was missed and what was touched")
    arguments = parser.parse_args()
    planted = list(secrets(arguments.seed, arguments.each))
    clean = list(clean_lines(arguments.seed + 1, arguments.each))

    missed = [c for c in planted if c.secret in redact_text(c.line)[0]]
    touched = [c for c in clean if redact_text(c.line)[0] != c.line]
    figures = {
        "recall": recall(planted, missed),
        "clean lines": len(clean),
        "clean lines touched": len(touched),
        "CPU ms per line": ms_per_text([c.line for c in [*planted, *clean]]),
        "CPU ms per clean kB": ms_per_text(["\n".join(c.line for c in clean[::40])[:1_000]] * 500),
        "CPU s per hostile MB": hostile_seconds(),
    }

    for case in [*missed, *touched] if arguments.show else []:
        print(f"{case.kind}: {case.line[:200]!r}")
    show(figures)
    results.keep("redaction", " ".join(["python -m benchmarks.redaction", *sys.argv[1:]]), figures)
    return 0 if holds(figures) else 1


def recall(planted: list[Case], missed: list[Case]) -> dict[str, dict[str, tuple[int, int]]]:
    """For every kind of every family, how many were found of how many; `all` sums them up."""
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for case in planted:
        for kind in (case.kind, "all"):
            hits, cases = found[case.family].get(kind, (0, 0))
            found[case.family][kind] = (hits + (case not in missed), cases + 1)
    return found


def ms_per_text(texts: list[str]) -> float:
    """CPU milliseconds to redact one of these."""
    began = time.process_time()
    for text in texts:
        redact_text(text)
    return round((time.process_time() - began) / len(texts) * 1e3, 3)


def hostile_seconds() -> dict[str, float]:
    """CPU seconds for a megabyte of each, the slowest five."""
    took = {}
    for unit in HOSTILE:
        text = unit.replace("_", " ") * (1_000_000 // len(unit))
        began = time.process_time()
        redact_text(text)
        took[unit] = round(time.process_time() - began, 2)
    return dict(sorted(took.items(), key=lambda item: -item[1])[:5])


def show(figures: dict[str, Any]) -> None:
    """Recall by kind as one table, the rest as another."""
    rows = [
        (family, kind, f"{hits} of {cases}", f"{hits / cases:.1%}")
        for family, kinds in figures["recall"].items()
        for kind, (hits, cases) in sorted(kinds.items(), key=lambda item: item[0] == "all")
    ]
    print(results.table(("family", "kind", "found", "share"), rows) + "\n")
    hostile = ", ".join(f"`{unit}` {s} s" for unit, s in figures["CPU s per hostile MB"].items())
    touched = figures["clean lines touched"]
    share = f"{touched / figures['clean lines']:.2%}"
    lines: Iterable[tuple[str, str, str]] = [
        ("clean lines touched", f"{touched} of {figures['clean lines']} = {share}", "0.5%"),
        ("CPU per line", f"{figures['CPU ms per line']} ms", "1 ms"),
        ("CPU per clean kB", f"{figures['CPU ms per clean kB']} ms", ""),
        ("CPU per hostile MB, slowest", hostile, "2 s"),
    ]
    print(results.table(("figure", "measured", "limit"), list(lines)))


def holds(figures: dict[str, Any]) -> bool:
    """Whether every figure reaches what it is held to."""
    shares = {family: kinds["all"] for family, kinds in figures["recall"].items()}
    return (
        all(hits / cases >= LEAST[family] for family, (hits, cases) in shares.items())
        and figures["clean lines touched"] <= MOST_TOUCHED * figures["clean lines"]
        and figures["CPU ms per line"] <= MOST_MS_PER_LINE
        and max(figures["CPU s per hostile MB"].values()) <= MOST_S_PER_HOSTILE_MB
    )


if __name__ == "__main__":
    sys.exit(main())
