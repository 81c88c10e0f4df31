"""Folders of finished runs and evaluations, as training and evaluation leave them."""

import json
from pathlib import Path

from ingest.lessons import register_dataset
from training import registry

DATASET = "ds-0123456789ab"
MANIFEST = {"rows": 1536, "tasks": {"context": 480, "unseen": 96}, "prompt_hash": "p1"}
CURVE = [
    {"step": s, "loss": round(3.9 * 0.9**s + 0.08, 4), "tokens_per_s": 2000.0 + 10 * s}
    for s in range(0, 60, 2)
]


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def finished_run(home: Path, name: str, *, quota: int = 12, cpu_s: float = 31.5) -> Path:
    folder = home / "runs" / name
    recipe = {"dataset": DATASET, "seed": 7, "alphas": [0.85, 1.0], "quota": {"base": quota}}
    write(folder / "recipe.json", recipe)
    write(folder / "mixture.json", {"new": 480, "rehearsed": 88 * quota, "shards": {"general": 64}})
    write(folder / "curve.jsonl", "".join(json.dumps(p) + "\n" for p in CURVE))
    write(folder / "environment.json", {"torch": "2.13.0", "device": "cpu", "threads": 1})
    write(
        folder / "cost.json",
        {"cpu_s": cpu_s, "wall_s": 36.25, "tokens": 231_000, "peak_rss_mb": 610.5},
    )
    write(folder / "sweep.json", [{"alpha": a, "new": 0.98, "kept": a} for a in (0.85, 1.0)])
    write(folder / "DONE", "{}")
    return folder


def finished_evaluation(
    home: Path, name: str, *, share: float, sha: str = "a1", champion: str | None = None
) -> Path:
    """What the gate leaves of a challenger with this adapter: it beside the base and a champion."""
    folder = home / "evals" / name
    cell = {"share": share, "n": 120, "interval": {"low": share - 0.07, "high": share + 0.05}}
    arms = [{"cohort": f"era {e}", "base": cell, "adapter_retrieval": cell} for e in (0, 1)]
    who = [("base", None, 0.13), ("champion", champion, 0.4), ("challenger", sha, share)]
    write(
        folder / "figures.json",
        [
            {
                "model": model,
                "adapter_sha256": adapter,
                "base_hash": "b1",
                "suite": name.rpartition("-")[2],
                "figures": {"right/kept": right, "suite/era 1 with retrieval": right},
            }
            for model, adapter, right in who
            if adapter or model == "base"
        ],
    )
    write(folder / "arms.json", arms)
    write(folder / "matrix.json", {"rows": [[0.992, None], [0.958, share]], "BWT": -0.034})
    write(folder / "gate.json", {"outcome": "pass", "findings": [{"numbers": {"n": 3}}]})
    write(folder / "gate.md", "# PASS\n")
    write(folder / "retrieval.jsonl", '{"text": "the words of an incident"}\n')
    return folder


def manifest(home: Path) -> Path:
    path = home / "datasets" / DATASET / "manifest.json"
    write(path, MANIFEST)
    return path


def export(store, *lessons: tuple[str, int], name: str = DATASET) -> str:
    """A dataset that teaches these (incident id, version)."""
    with store.transaction("test") as writing:
        register_dataset(writing, name, {**MANIFEST, "incident_count": len(lessons)}, lessons)
    return name


def register(
    store,
    home: Path,
    run: str,
    *,
    sha: str,
    metrics=None,
    verdict="pass",
    report=None,
    dataset=None,
):
    """The adapter of this run in the registry, with files of its own."""
    folder = home / "adapters" / sha
    write(folder / "adapter_config.json", {"r": 16})
    write(folder / "adapter_model.safetensors", f"weights of {sha}")
    write(folder / "manifest.json", {"sha256": sha})
    return registry.register(
        store,
        dataset=dataset,
        base_hash="b1",
        prompt_hash="p1",
        adapter_sha256=sha,
        folder=f"adapters/{sha}",
        run_id=run,
        parent=None,
        verdict=verdict,
        report=report or {},
        metrics=metrics or {},
        actor="test",
    )
