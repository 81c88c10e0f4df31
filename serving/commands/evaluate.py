"""`scarwise eval`: replay the suite with a model, and compare two models from what was kept."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import AsJson, loaded, opened, say

if TYPE_CHECKING:
    from eval.compare import Row
    from eval.suite import Suite
    from eval.transcript import Header, Transcript
    from ingest.store import Store
    from retrieval.prompt import Prompt
    from serving.settings import Settings
    from training.model import Loaded
    from training.registry import Registered


def install(app: typer.Typer) -> None:
    app.command("eval")(evaluate)


def evaluate(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="7, diag-v7 or base; else the champion. Or: compare A B."),
    ] = None,
    suite: Annotated[int | None, typer.Option("--suite", help="Its version; else the newest.")] = (
        None
    ),
    as_json: AsJson = False,
) -> None:
    """Ask a model every case of the suite; what it answered before is not asked again.

    `eval compare A B` puts two models side by side, from the answers that are kept.
    """
    from ingest.errors import Refused

    words = what or []
    if words[:1] == ["compare"]:
        if len(words) != 3:
            raise Refused("name the two models: `scarwise eval compare diag-v1 diag-v2`")
        _compare(words[1], words[2], suite, as_json)
    elif len(words) > 1:
        raise Refused("name one model, or `scarwise eval compare A B`")
    else:
        _evaluate(words[0] if words else None, suite, as_json)


def _evaluate(name: str | None, version: int | None, as_json: bool) -> None:
    from eval.replay import folder_of, replay
    from serving.commands.bar import Bar

    settings = loaded()
    asked = _suite(settings, version)
    with opened() as store:
        model = _named(store, name)
        base_hash = model.base_hash if model else _base_hash(store, settings)
    header = _header(asked, model, base_hash)
    out = folder_of(settings.evals, header.model, asked.name)
    voice = _Voice(settings, model, base_hash)
    with Bar(f"replaying suite {asked.name}", None) as bar:

        def progress(arm: str, done: int, total: int) -> None:
            bar.named(arm.replace("_", " "))
            bar.at(done, total)

        told = replay(
            asked,
            header=header,
            answer=voice.answer,
            nll=voice.nll,
            out=out,
            progress=progress,
        )
    _show(told, out, as_json)


def _compare(one: str, other: str, version: int | None, as_json: bool) -> None:
    from eval.compare import compared
    from eval.replay import folder_of, kept_replay
    from serving.terminal import console, table

    settings = loaded()
    asked = _suite(settings, version)
    kept = []
    for name in (one, other):
        out = folder_of(settings.evals, _model_name(name), asked.name)
        _refuse_unasked(out, name, asked.name)
        kept.append(kept_replay(out))
    comparison = compared(*kept)
    if as_json:
        say(True, _comparison_view(comparison.rows(), *kept), "")
        return
    columns = ("cohort", "arm", "cases", comparison.before, comparison.after, "gained", "lost")
    table(console(), columns, [_line(row) for row in comparison.rows()])


class _Voice:
    """A model that is loaded when it is first asked: what is kept needs none."""

    def __init__(self, settings: "Settings", model: "Registered | None", base_hash: str) -> None:
        self._adapter = model.name if model else None
        self._loaded = cache(lambda: _load(settings, model, base_hash))

    def answer(self, prompts: "Sequence[Prompt]") -> list[str]:
        from eval.replay import DECODE
        from training.model import generate

        most = int(DECODE["max_new_tokens"])
        return generate(self._loaded(), prompts, adapter=self._adapter, max_new_tokens=most)

    def nll(self, prompts: "Sequence[Prompt]", answers: Sequence[str]) -> list[float]:
        from training.model import nll

        return nll(self._loaded(), prompts, answers, adapter=self._adapter)


def _load(settings: "Settings", model: "Registered | None", base_hash: str) -> "Loaded":
    from retrieval.prompt import prompt_hash
    from serving.service import load_model
    from training import adapters
    from training.model import ModelUnsound, with_adapter

    if model:
        adapters.verify(settings.home / model.folder, model.base_hash, prompt_hash())
    base = load_model(settings, base_hash)
    if base.base_hash != base_hash:
        raise ModelUnsound(
            f"the models here were trained on base {base_hash}, and training.base names "
            f"{base.base_hash}; set it back"
        )
    if model:
        with_adapter(base, settings.home / model.folder, name=model.name)
    return base


def _suite(settings: "Settings", version: int | None) -> "Suite":
    from eval.suite import read_suite, suite_versions
    from ingest.errors import Refused

    folder = settings.suite
    found = [version] if version is not None else suite_versions(folder)[-1:]
    if not found:
        raise Refused("no suite is frozen yet; `scarwise retrain` freezes one of what it trains on")
    return read_suite(folder, found[0])


def _named(store: "Store", name: str | None) -> "Registered | None":
    """The model of this name, or the champion; None for the base."""
    from eval.examination import BASE
    from training import registry

    if name == BASE:
        return None
    champion = registry.pointer(store).champion
    version = registry.version_of(name) if name else champion
    return registry.get(store, version) if version is not None else None


def _model_name(name: str) -> str:
    """What the examination calls this model: its answers are kept under that."""
    from eval.examination import BASE
    from training import registry

    return BASE if name == BASE else registry.named(registry.version_of(name))


def _base_hash(store: "Store", settings: "Settings") -> str:
    """Which base the models here stand on; without a model, the one that the settings name."""
    from ingest.errors import Refused
    from training import registry
    from training.model import base_folder, fingerprint

    models = registry.every(store)
    if models:
        return models[-1].base_hash
    if settings.training.base == "offline":
        raise Refused("no model is registered yet; `scarwise train` makes one from the base")
    return fingerprint(base_folder(settings.training.base, settings.training.revision))


def _header(asked: "Suite", model: "Registered | None", base_hash: str) -> "Header":
    from eval.examination import BASE
    from eval.replay import header_of

    return header_of(
        asked,
        model=model.name if model else BASE,
        base_hash=base_hash,
        adapter_sha256=model.adapter_sha256 if model else None,
    )


def _refuse_unasked(out: Path, name: str, suite: str) -> None:
    from ingest.errors import Unknown

    if not out.is_dir():
        raise Unknown(
            f"{name} was never replayed on suite {suite}; run `scarwise eval {name} --suite "
            f"{suite[1:]}` first"
        )


def _show(told: "Transcript", out: Path, as_json: bool) -> None:
    from eval.compare import slice_scores
    from serving.terminal import console, table

    scores = slice_scores(told)
    unsafe = sum(p.scores.get("safe") == 0 for p in told.predictions)
    bits = [p.scores.get("exposure_bits") for p in told.predictions if p.task == "canary"]
    known = [b for b in bits if b is not None]
    if as_json:
        view: dict[str, Any] = {**told.header.model_dump(), "folder": str(out)}
        view["slices"] = [
            {"cohort": s.cohort, "arm": s.arm, "cases": s.n, "right": s.share} for s in scores
        ]
        say(True, {**view, "unsafe": unsafe, "exposure_bits": known}, "")
        return
    lines = [(s.cohort, s.arm.replace("_", " "), s.n, f"{s.share:.3f}") for s in scores]
    table(console(), ("cohort", "arm", "cases", "right"), lines)
    exposed = f"; best known canary {max(known):.1f} of 12 bit" if known else ""
    print(f"{told.header.model} on suite {told.header.suite}: {unsafe} unsafe answers{exposed}")


def _line(row: "Row") -> tuple[object, ...]:
    arm, t = row.arm.replace("_", " "), row.tally
    if t is None:
        return row.cohort, arm, 0, "", "", "", ""
    return row.cohort, arm, t.n, f"{t.before:.3f}", f"{t.after:.3f}", t.gained, t.lost


def _comparison_view(
    rows: "Sequence[Row]", before: "Transcript", after: "Transcript"
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "before": before.header.model_dump(),
        "after": after.header.model_dump(),
        "slices": [asdict(row) for row in rows],
    }
