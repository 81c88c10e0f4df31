"""The loop, shown: an adapter that forgot is held, one that did not is promoted, and then answers.

Everything here is of the invented world, taught to the small offline base: it shows that the
machinery works, and says nothing of a model that anybody would use.
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from ingest.incident import Incident
from retrieval.diagnosis import Diagnosis
from retrieval.prompt import question_text
from retrieval.search import Question
from serving import settings
from serving.footing import offline
from serving.learning import built, said_of_base, telling_on
from serving.retrain import Ended, place_of, retrain
from serving.service import Service
from serving.settings import Settings
from serving.terminal import console
from training import recipe
from training.base import SEED
from training.world import incidents

ACTOR = "demo"
ERA = 1
FOLDER = "demo"
_MOST_REASONS = 5


def run(out: Console | None = None) -> None:
    """One era learned twice, carelessly and with rehearsal; kept in `demo/` of the data folder."""
    out = out or console()
    found = _settings()
    _base(out, found)
    service = _opened(found)
    try:
        news, arriving = _year()
        _take_in(out, service, news)
        _title(out, f"{len(arriving)} of these faults happen again, before anything is learned")
        before = _asked(out, service, arriving)

        _title(out, "A careless adapter: trained on the new incidents and nothing else")
        naive = _turn(service, found, "naive")
        _verdict(out, naive)

        _title(out, "The same incidents, with a dozen exemplars of every older fault rehearsed")
        rehearsed = _turn(service, found, "tiny")
        _verdict(out, rehearsed)

        _title(out, "The same alerts, after")
        after = _asked(out, service, arriving)
        _both(out, before, after)
        _where_to_look(out, found, naive, rehearsed)
    finally:
        service.close()


def _settings() -> Settings:
    """Those of a folder of its own, which the next demonstration throws away; the base is kept."""
    home = settings.home()
    folder = home / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return settings.load(
        SCARWISE_HOME=str(folder),
        SCARWISE_RETRIEVAL_MODELS=str(home / "models"),
        SCARWISE_TRAINING_BASES=str(home / "bases"),
        SCARWISE_TRAINING_AUTO_PROMOTE="true",
        SCARWISE_SERVE_MODEL_TIMEOUT_S="60",
    )


def _base(out: Console, found: Settings) -> None:
    _title(out, "A small base model is made from nothing (once; some minutes)")
    made, fresh = built(found)
    out.print(said_of_base(made, fresh))
    out.print()


def _opened(found: Settings) -> Service:
    """A service over the store that the base was taught from, with what it was taught."""
    made = offline(found)
    shutil.copytree(made.datasets, found.datasets)
    source, copy = sqlite3.connect(made.world), sqlite3.connect(found.home / "scarwise.db")
    try:
        source.backup(copy)
    finally:
        source.close()
        copy.close()
    service = Service.open(found)
    service.warm()
    return service


def _year() -> tuple[list[Incident], list[Incident]]:
    """A year of the world, and the last recurrence of each of its faults: these arrive now."""
    told = list(incidents(SEED, ERA))
    families = Counter(i.cause_family for i in told)
    last = {i.cause_family: i for i in told if families[i.cause_family] > 1}
    return [i for i in told if last.get(i.cause_family) is not i], list(last.values())


def _take_in(out: Console, service: Service, told: list[Incident]) -> None:
    families = Counter(i.cause_family for i in told)
    recurring = sum(n > 1 for n in families.values())
    _title(out, f"A year goes by: {len(told)} incidents, {recurring} faults never seen before")
    receipts = service.store.put(told, actor=ACTOR)
    service.embed_all()
    out.print(f"{sum(r.outcome == 'stored' for r in receipts)} kept and embedded")
    out.print()


@dataclass(frozen=True, slots=True)
class _Answered:
    """One alert, and what was said to it."""

    incident: Incident
    told: Diagnosis

    @property
    def is_named(self) -> bool:
        """Whether the true cause is given, with a precedent that states it."""
        return self.told.root_cause == self.incident.root_cause

    @property
    def is_known(self) -> bool:
        """The same, or said by the model from what it learned, without evidence."""
        guess = self.told.hypothesis
        return self.is_named or bool(guess and guess.text == self.incident.root_cause)


def _asked(out: Console, service: Service, arriving: list[Incident]) -> list[_Answered]:
    """What is said to each of these alerts, none of which is stored; and how often rightly."""
    service.live.follow()
    answered = []
    for incident in arriving:
        told = service.diagnose(Question(text=question_text(incident), limit=5))
        answered.append(_Answered(incident, told))
    named = sum(a.is_named for a in answered)
    known = sum(a.is_known for a in answered)
    model = _model_of(answered[-1].told)
    out.print(f"answered by {model}: {named} of {len(answered)} causes named rightly, and "
              f"{known - named} more as a hypothesis, without evidence")  # fmt: skip
    out.print()
    return answered


def _both(out: Console, before: list[_Answered], after: list[_Answered]) -> None:
    """One alert whose answer became right, both answers below each other."""
    pairs = list(zip(before, after, strict=True))
    then, now = next((p for p in pairs if p[1].is_known and not p[0].is_known), pairs[0])
    alert = question_text(now.incident)
    out.print(Panel(Text(alert), title="one of them", title_align="left", border_style="red"))
    for label, answered in (("before", then), ("after", now)):
        _line(out, label, _model_of(answered.told))
        _said(out, answered.told)
    _line(out, "in truth", f"{now.incident.root_cause} {now.incident.resolution}")
    out.print()


def _said(out: Console, told: Diagnosis) -> None:
    _line(out, "  cause", told.root_cause or f"none named ({told.status})")
    if told.hypothesis:
        _line(out, "  hypothesis", f"{told.hypothesis.text} (learned; no precedent shown says it)")
        if told.hypothesis.fix:
            _line(out, "  fix", told.hypothesis.fix)
    elif told.actions:
        first = told.actions[0]
        _line(out, "  fix", f"{first.text} ({first.ruling.decision.replace('_', ' ')})")
    if told.degraded:
        _line(out, "  degraded", told.degraded)


def _model_of(told: Diagnosis) -> str:
    return f"diag-v{told.model['version']}" if told.model else "precedents alone, no model"


def _turn(service: Service, found: Settings, named: str) -> Ended:
    with _watched() as telling:
        return retrain(
            service.store, service.index, found, actor=ACTOR, chosen=recipe.read(named),
            telling=telling,
        )  # fmt: skip


@contextmanager
def _watched() -> Iterator[Any]:
    from serving.commands.bar import Bar

    with Bar("learning", None) as bar:
        yield telling_on(bar)


def _verdict(out: Console, ended: Ended) -> None:
    colours = {"promoted": "bold green", "passed": "bold green", "held": "bold red"}
    style = colours.get(ended.outcome, "bold yellow")
    out.print(Text(ended.outcome.upper(), style=style), Text(f"diag-v{ended.version}"))
    out.print(ended.words)
    if ended.examined:
        for reason in ended.examined.verdict.reasons[:_MOST_REASONS]:
            out.print(Padding(Text(f"{reason.check}: {reason.words}"), (0, 0, 0, 2)))
        more = len(ended.examined.verdict.reasons) - _MOST_REASONS
        if more > 0:
            out.print(Padding(Text(f"and {more} more reasons", style="dim"), (0, 0, 0, 2)))
        told = ", ".join(f"{n} {v:.2f}" for n, v in ended.examined.metrics.items())
        out.print(Text(f"{told}; the whole report: {ended.examined.folder / 'gate.md'}", "dim"))
    out.print()


def _where_to_look(out: Console, found: Settings, *ended: Ended) -> None:
    from training import tracking
    from training.mlflow_place import MlflowUnreachable

    place = place_of(found)
    _title(out, "Look at it")
    try:
        seen = tracking.shown(place, [e.run for e in ended if e.run])
    except MlflowUnreachable as error:
        out.print(str(error))
        return
    out.print(f"{place.command}")
    out.print(f"then both runs side by side: {tracking.compare_url(place, seen)}", soft_wrap=True)
    out.print(f"SCARWISE_HOME={found.home} scarwise models")


def _title(out: Console, title: str) -> None:
    out.print(Rule(title, align="left"))


def _line(out: Console, label: str, text: str) -> None:
    out.print(Text(f"{label:<12}", style="cyan"), Text(text), soft_wrap=True)
