"""The page of a replayed history: one file that opens without a network and runs nothing.

Whatever stands in an incident is a stranger's text: it is escaped, and nothing on the page follows
a link, loads a picture or runs a script.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from eval import charts
from eval.backtest import DEPTH
from eval.backtest_scores import NEAR, Answers, Figures, Group, Outcomes, Recall, Share
from eval.charts import Curve, Dot, Part
from ingest.incident import visible

if TYPE_CHECKING:
    from jinja2 import Environment

ARM_NAMES = {
    "scarwise": "Scarwise",
    "words": "plain word search",
    "recent": "newest of its service",
    "frequent": "its commonest families",
}
_STYLES = {"scarwise": "c0", "words": "c1", "recent": "c2", "frequent": "c3"}
_FEW = 20  # cases below which a share is hardly more than an anecdote
OUTCOMES = {
    "right": ("right cause", "good"),
    "wrong": ("wrong cause", "bad"),
    "unjudged": ("cause that nobody can judge", "dull"),
    "withheld": ("similar ones shown, no cause named", "pale"),
    "new": ("“not seen before”", "c1"),
}


@dataclass(frozen=True, slots=True)
class About:
    """What was replayed, on what, by what: the page says so under its first sentence.

    `model` is why a model was asked or was not, in one sentence.
    """

    command: str
    version: str
    at: datetime
    incidents: int
    versions: int
    revision: int
    embedder: str | None
    label: str | None
    model: str


def page(found: Figures, about: About) -> str:
    """The whole page."""
    told = _environment().get_template("backtest.html")
    return told.render(
        f=found, about=about, lead=lead(found), tiles=_tiles(found), **_pictures(found)
    )


def lead(found: Figures) -> list[str]:
    """What came out, in a few sentences for whoever has no time for the rest."""
    said = [
        f"{found.n:,} incidents were asked again, each as of the minute it began, with nothing "
        "but what was on record by then."
    ]
    ours = main_recall(found)
    if ours is None:
        said.append(
            "Of none of them is it on record which earlier incident had the same cause, so what "
            "follows tells what was answered, not how much of it was right. Fill in "
            "cause_family, or name a label with --family-label."
        )
    else:
        of = {
            "family": "had an earlier incident with the same cause on record",
            "recurrence": "repeat an earlier one nearly word for word (no cause is labelled)",
        }[ours.rule]
        hits = round(ours.at[NEAR].mean * ours.n)
        beside = next(r for r in found.recall if (r.rule, r.arm) == (ours.rule, "words"))
        said.append(
            f"{ours.n:,} of them {of}: for {hits:,} ({ours.at[NEAR].mean:.0%}) one of these was "
            f"among the first {NEAR} shown; a plain word search has {beside.at[NEAR].mean:.0%}."
        )
    a = found.answers
    said.append(_named(a))
    if a.abstained:
        said.append(
            f"{a.abstained.n:,} were new; for {a.abstained.mean:.0%} of these it claimed no cause."
        )
    if unknown := found.rules.get("unscored"):
        said.append(
            f"Of {unknown:,} nobody can say whether they had been seen before; they count neither "
            "way."
        )
    return said


def main_recall(found: Figures) -> Recall | None:
    """The recall to quote: by cause family where there is any, else of recurrences."""
    return next((r for r in found.recall if r.arm == "scarwise"), None)


def percent(share: Share | None) -> str:
    return "unscored" if share is None else f"{share.mean:.0%}"


def interval(share: Share | None) -> str:
    return "" if share is None else f"{share.low:.0%} to {share.high:.0%}"


def points(value: float) -> str:
    """A difference of shares in points."""
    return f"{round(100 * value):+d}".replace("-", "−")


def ratio(counts: tuple[int, int]) -> str:
    """A share with what it is of; a dash where there is nothing to count."""
    return f"{counts[0] / counts[1]:.0%} of {counts[1]:,}" if counts[1] else "–"


def lasting(seconds: float) -> str:
    """A length of time in the two largest units that say something."""
    minutes = round(abs(seconds) / 60)
    sign = "−" if seconds < 0 and minutes else ""
    if minutes < 120:
        return f"{sign}{minutes} min"
    return (
        f"{sign}{minutes / 60:,.0f} h" if minutes < 72 * 60 else f"{sign}{minutes / 1440:,.0f} days"
    )


def day(at: datetime) -> str:
    return f"{at.day} {at:%b %Y}"


def shown(text: str | None) -> str:
    """A text on one line, with nothing hidden in it."""
    return " ".join(visible(text or "").split())


def _named(a: Answers) -> str:
    if not a.coverage or not a.coverage.mean:
        return "It named no cause: no earlier incident states one that could be quoted."
    said = f"It named a cause for {a.coverage.mean:.0%} of all incidents"
    if a.trust is None:
        return f"{said}; whether they are right, nobody can say without labels."
    return f"{said}; where that can be judged, {a.trust.mean:.0%} of {a.trust.n:,} were right."


@dataclass(frozen=True, slots=True)
class _Tile:
    figure: str
    title: str
    note: str
    few: bool


def _tile(share: Share | None, title: str, note: str) -> _Tile:
    if share is None:
        return _Tile("unscored", title, "no incident can be judged", False)
    told = f"{note}; 95% interval {interval(share)}, n\u00a0=\u00a0{share.n:,}"
    return _Tile(percent(share), title, told, share.n < _FEW)


def _tiles(found: Figures) -> list[_Tile]:
    ours, a = main_recall(found), found.answers
    rule = "the same cause" if ours and ours.rule == "family" else "a recurrence"
    return [
        _tile(ours.at[NEAR] if ours else None, "of precedents found",
              f"{rule} among the first {NEAR} shown"),
        _tile(a.trust, "of named causes right", "of those that can be judged"),
        _tile(a.accuracy, "of seen causes named", "seen before, and named rightly"),
        _tile(a.abstained, "held back when new", "no cause claimed for what was new"),
    ]  # fmt: skip


def _pictures(found: Figures) -> dict[str, object]:
    return {
        "curves": {r.rule: _curves(found, r.rule) for r in found.recall if r.arm == "scarwise"},
        "positions": {
            r.rule: _positions(found, r.rule) for r in found.recall if r.arm == "scarwise"
        },
        "outcomes": _outcomes(found.answers, "What was answered"),
        "beside": _beside(found),
        "times": _times(found.periods),
    }


def _curves(found: Figures, rule: str) -> Markup:
    lines = []
    for r in found.recall:
        if r.rule == rule:
            shares = [sum(r.places[k] for k in range(1, n + 1)) / r.n for n in range(1, DEPTH + 1)]
            bounds = (
                [(k - 1, s.low, s.high) for k, s in r.at.items()] if r.arm == "scarwise" else []
            )
            lines.append(Curve(ARM_NAMES[r.arm], _STYLES[r.arm], shares, bounds))
    says = "; ".join(f"{line.name}: {line.shares[0]:.0%} first, {line.shares[-1]:.0%} within ten"
                     for line in lines)  # fmt: skip
    return charts.curves(lines, says=f"Precedent found. {says}", under="places looked at")


def _positions(found: Figures, rule: str) -> Markup:
    held = [r for r in found.recall if r.rule == rule and r.arm in ("scarwise", "words")]
    labels = [*map(str, range(1, DEPTH + 1)), "not in ten"]
    series = [
        (ARM_NAMES[r.arm], _STYLES[r.arm], [*r.places.values(), r.n - sum(r.places.values())])
        for r in held
    ]
    return charts.columns(labels, series, says="At which place the first true precedent stands")


def _outcomes(a: Answers, says: str) -> Markup:
    rows = [(f"{name}, {o.n:,}", _parts(o)) for name, o in counted(a)]
    return charts.bars(rows, says=says)


def _beside(found: Figures) -> Markup:
    """What the model changed, on the incidents that it was asked about."""
    if not found.model or not found.beside_model:
        return Markup("")
    pairs = zip(counted(found.beside_model), counted(found.model), strict=True)
    rows = [
        (f"{name}, {o.n:,}: {how}", _parts(o))
        for (name, without), (_, with_it) in pairs
        for how, o in (("without", without), ("with the model", with_it))
    ]
    return charts.bars(rows, says="What was answered without and with the model")


def counted(a: Answers) -> list[tuple[str, Outcomes]]:
    """The outcomes of each kind of incident that there is."""
    rows = [
        ("seen before: an earlier one had this cause", a.seen),
        ("new: no earlier one had it", a.novel),
        ("repeats an earlier incident, no family named", a.recurring),
        ("nobody can say whether it was seen before", a.unscored),
    ]
    return [(name, outcomes) for name, outcomes in rows if outcomes.n]


def _parts(o: Outcomes) -> list[Part]:
    return [Part(name, style, getattr(o, field)) for field, (name, style) in OUTCOMES.items()]


def _times(periods: Sequence[Group]) -> list[tuple[str, str, Markup]]:
    """(title, what it is, picture) of each measure that has something to show."""
    measures = [
        ("Precedent found", "within the first five, of those seen before", "c0",
         [_dot(p, p.found) for p in periods]),
        ("Recurrence found", "within the first five, of those without a family", "c0",
         [_dot(p, p.recurred) for p in periods]),
        ("Cause named rightly", "of those seen before", "c2", [_dot(p, p.right) for p in periods]),
        ("Held back when new", "no cause claimed, of those not seen before", "c1",
         [_dot(p, p.abstained) for p in periods]),
        ("A cause was named", "right or wrong, of all", "c3",
         [_dot(p, (p.named, p.n)) for p in periods]),
        ("“Not seen before”", "said so, of all", "c1", [_dot(p, (p.new, p.n)) for p in periods]),
    ]  # fmt: skip
    drawn = [
        (title, what, charts.over_time(dots, says=f"{title} over time", style=style))
        for title, what, style, dots in measures
        if any(dot.value is not None for dot in dots)
    ]
    sizes = [Dot(p.name, p.memory, p.n) for p in periods]
    memory = charts.over_time(sizes, says="Memory over time", style="c0", shares=False)
    return [*drawn, ("Memory", "incidents on record by then", memory)]


def _dot(period: Group, counts: tuple[int, int]) -> Dot:
    return Dot(period.name, counts[0] / counts[1] if counts[1] else None, counts[1])


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("eval"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "arm_names": ARM_NAMES,
        "near": NEAR,
        "counted": counted,
        "outcome_names": OUTCOMES,
    }
    for word in (percent, interval, points, ratio, lasting, day, shown):
        made.filters[word.__name__] = word
    return made
