"""What each model that the gate looked at reached on one suite, under the names MLflow shows.

Champion, challenger and base answered the same cases, so these figures may stand side by side;
those that a champion reached on an older suite may not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.compare import ARM_WORDS, slice_scores
from eval.transcript import Transcript

FIGURES = "figures.json"


def figures(
    said: Sequence[Transcript], telling: Sequence[Mapping[str, float]]
) -> list[dict[str, Any]]:
    """One entry a transcript, with its own of the `telling` figures first; all are shares."""
    return [
        {
            "model": one.header.model,
            "adapter_sha256": one.header.adapter_sha256,
            "base_hash": one.header.base_hash,
            "suite": one.header.suite,
            "figures": {
                **{f"right/{name}": value for name, value in first.items()},
                **{f"suite/{s.cohort} {ARM_WORDS[s.arm]}": s.share for s in slice_scores(one)},
            },
        }
        for one, first in zip(said, telling, strict=True)
    ]
