"""What the gate's bounds on one older cohort let pass: a cohort that nothing changed, and others.

    python -m benchmarks.power [--cases 80] [--draws 400]

Pairs are drawn, no model is asked: 6 % of the answers differ closed book and 14 % with retrieval,
as between two honest models of the offline base. The rules are the gate's own, and beside them
stands the same with the bound of 10 points held in each arm. Results go to
benchmarks/results/power.json.
"""

import argparse
import random
from collections.abc import Sequence

from benchmarks.results import keep, table
from eval.compare import ARMS, Pair, discordant, low_here
from eval.evidence import Rules
from eval.score import Arm
from eval.statistics import p_worse

DIFFER: dict[Arm, float] = {"closed_book": 0.06, "retrieval": 0.14}
LOSSES = ((0, 0), (0.01, 0.01), (0, 0.03), (0, 0.06), (0, 0.1), (0, 0.15), (0.05, 0.05), (0.1, 0.1))
SLICES = 8  # that Holm's correction is over: four older cohorts


def drawn(rng: random.Random, arm: Arm, cases: int, loss: float) -> list[Pair]:
    differ = max(DIFFER[arm], loss)
    pairs = []
    for n in range(cases):
        at = rng.random()
        after = 0.0 if at < (differ + loss) / 2 else 1.0
        before = 0.0 if after and at < differ else 1.0
        pairs.append(Pair(f"{n}", arm, "era 0", f"{n}", "known", f"{n}", before, after))
    return pairs


def passes(arms: Sequence[list[Pair]], rules: Rules) -> tuple[bool, bool]:
    """By the gate's bounds, and by 10 points in each arm; both with its test of each arm."""
    for pairs in arms:
        gained, lost = discordant(pairs)
        is_worse = p_worse(gained, lost) < rules.alpha / SLICES
        if is_worse and (lost - gained) / len(pairs) >= rules.least_loss:
            return False, False
    each = [low_here(pairs) for pairs in arms]
    both = low_here([pair for pairs in arms for pair in pairs])
    ours = both > -rules.cohort_margin and all(low > -rules.arm_margin for low in each)
    return ours, all(low > -rules.cohort_margin for low in each)


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--cases", type=int, default=80, help="of the cohort, each in two arms")
    words.add_argument("--draws", type=int, default=400)
    asked = words.parse_args()
    rng, rules, rows = random.Random(7), Rules(), []
    for losses in LOSSES:
        told = [
            passes(
                [
                    drawn(rng, arm, asked.cases, loss)
                    for arm, loss in zip(ARMS, losses, strict=True)
                ],
                rules,
            )
            for _ in range(asked.draws)
        ]
        ours, each = (sum(held) / asked.draws for held in zip(*told, strict=True))
        rows.append({"closed_book": losses[0], "retrieval": losses[1], "gate": ours,
                     "ten points in each arm": each})  # fmt: skip
        print(rows[-1], flush=True)
    print(table(("lost, closed book", "lost, with retrieval", "passes", "10 points in each arm"), [
        tuple(f"{100 * value:.0f} %" for value in row.values()) for row in rows
    ]))  # fmt: skip
    keep("power", f"python -m benchmarks.power --cases {asked.cases} --draws {asked.draws}",
         {"cases": asked.cases, "differ": DIFFER, "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
