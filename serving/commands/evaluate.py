"""`scarwise eval`: replay the suite with a model, and compare two models from what was kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands.options import AsJson, loaded, opened, say

if TYPE_CHECKING:
    from eval.carrying import Kept
    from eval.compare import Row
    from eval.speaking import Elsewhere, Speaker
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
    """Ask a model every case of the suite; or compare two.

    What it answered before is not asked again. `eval compare A B` puts two models side by side,
    from the answers that are kept, also where they were asked different suites. `nearest` is the
    answer of the nearest precedent, copied.
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
    from eval.carrying import known_answers
    from eval.replay import folder_of, replay
    from serving.commands.bar import Bar

    settings = loaded()
    asked = _suite(settings, version)
    with opened() as store:
        model = _named(store, name)
        base_hash = model.base_hash if model else _base_hash(store, settings)
    with (
        _elsewhere(settings, base_hash) as there,
        _voice(settings, model, base_hash, there) as speaker,
        Bar(f"replaying suite {asked.name}", None) as bar,
    ):
        header = _header(asked, model, base_hash, there)
        out = folder_of(settings.evals, header.model, asked.name)

        def progress(arm: str, done: int, total: int) -> None:
            bar.named(arm.replace("_", " "))
            bar.at(done, total)

        told = replay(
            asked,
            header=header,
            answer=speaker.answer,
            nll=speaker.nll,
            out=out,
            taken=lambda: known_answers(asked, header, settings.evals),
            progress=progress,
        )
    _show(told, asked, out, as_json)


def _compare(one: str, other: str, version: int | None, as_json: bool) -> None:
    from eval.compare import compared
    from serving.terminal import console, table

    settings = loaded()
    if version is None:
        version = _newest_asked(settings, (one, other))
    suite = _suite(settings, version)
    kept = [_kept(settings, name, suite) for name in (one, other)]
    comparison = compared(*(k.told for k in kept))
    if as_json:
        view = _comparison_view(comparison.rows(), *(k.told for k in kept))
        say(True, {**view, "asked": [k.asked for k in kept], "pairs": len(comparison.pairs)}, "")
        return
    columns = ("cohort", "arm", "cases", comparison.before, comparison.after, "gained", "lost")
    table(console(), columns, [_line(row) for row in comparison.rows()])
    for name, k in zip((comparison.before, comparison.after), kept, strict=True):
        if k.asked != suite.manifest.version:
            print(f"{name} was asked suite v{k.asked}; what is the same in {suite.name} counts")
    print(f"{len(comparison.pairs)} answers compared, {len(comparison.missing)} of one model alone")


def _newest_asked(settings: "Settings", names: Sequence[str]) -> int | None:
    """The newest suite that one of these models was asked; None where none was any."""
    from eval.replay import folder_of
    from eval.suite import suite_versions

    models = [_model_name(name) for name in names if not _is_nearest(name)]
    asked = [
        version
        for version in suite_versions(settings.suite)
        if any(folder_of(settings.evals, model, f"v{version}").is_dir() for model in models)
    ]
    return asked[-1] if asked else None


def _kept(settings: "Settings", name: str, suite: "Suite") -> "Kept":
    from eval.carrying import Kept, kept_on
    from eval.copying import copied
    from ingest.errors import Unknown

    if _is_nearest(name):
        return Kept(copied(suite), suite.manifest.version)
    if found := kept_on(suite, _model_name(name), settings.evals):
        return found
    raise Unknown(
        f"{name} was never replayed on suite {suite.name}; run `scarwise eval {name} --suite "
        f"{suite.manifest.version}` first"
    )


def _is_nearest(name: str) -> bool:
    """Whether copying the nearest precedent is meant, which needs no model and no replay."""
    return name in ("nearest", "nearest-precedent", "nearest precedent")


@contextmanager
def _elsewhere(settings: "Settings", base_hash: str) -> "Iterator[Elsewhere | None]":
    """The base at the endpoint, when that is asked; with a copy of its tokenizer from here."""
    from serving.service import base_folder_here
    from serving.there import asked_base
    from training.model import tokenizer_in

    if not (settings.serve.endpoint and settings.serve.endpoint_evaluates):
        yield None
        return
    folder = base_folder_here(settings, base_hash)
    tokenizer = tokenizer_in(folder) if folder else None
    with asked_base(settings, base_hash, tokenizer) as there:
        yield there


@contextmanager
def _voice(
    settings: "Settings", model: "Registered | None", base_hash: str, there: "Elsewhere | None"
) -> "Iterator[Speaker]":
    """Who is asked: at the endpoint, or a model that is loaded here when it is first needed."""
    from eval.speaking import Speaker, speaking
    from serving.live import check

    if there is None:
        voice = _Voice(settings, model, base_hash)
        yield Speaker(voice.answer, voice.nll)
        return
    if model:
        check(model, settings.home)
    folder = settings.home / model.folder if model else None
    with speaking(there, model.name if model else "", folder) as speaker:
        yield speaker


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


def _header(
    asked: "Suite", model: "Registered | None", base_hash: str, there: "Elsewhere | None"
) -> "Header":
    from eval.examination import BASE
    from eval.replay import DECODE, header_of

    return header_of(
        asked,
        model=model.name if model else BASE,
        base_hash=base_hash,
        adapter_sha256=model.adapter_sha256 if model else None,
        decode=there.decode if there else DECODE,
    )


def _show(told: "Transcript", suite: "Suite", out: Path, as_json: bool) -> None:
    from eval.compare import slice_scores
    from serving.terminal import console, table

    scores = slice_scores(told)
    meanings = suite.manifest.meanings
    since = {cohort: f"v{m.version}, {m.since}" for cohort, m in meanings.items()}
    unsafe = sum(p.scores.get("safe") == 0 for p in told.predictions)
    bits = [p.scores.get("exposure_bits") for p in told.predictions if p.task == "canary"]
    known = [b for b in bits if b is not None]
    if as_json:
        view: dict[str, Any] = {**told.header.model_dump(), "folder": str(out)}
        view["slices"] = [
            {"cohort": s.cohort, "arm": s.arm, "cases": s.n, "right": s.share} for s in scores
        ]
        view["meanings"] = {c: m.model_dump(mode="json") for c, m in meanings.items()}
        say(True, {**view, "unsafe": unsafe, "exposure_bits": known}, "")
        return
    lines = [
        (s.cohort, s.arm.replace("_", " "), s.n, f"{s.share:.3f}", since.get(s.cohort, ""))
        for s in scores
    ]
    table(console(), ("cohort", "arm", "cases", "right", "meaning since"), lines)
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
