"""Models side by side, and the gate's findings on one of them, as a person reads them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WORDS = ("check", "ruling", "words", "rule")
_ORDER = ("fail", "inconclusive", "pass", "note")


@dataclass(frozen=True, slots=True)
class Found:
    """One finding of the gate: what it looked at, its ruling, and why, with the numbers."""

    check: str
    ruling: str
    words: str
    rule: str
    numbers: list[tuple[str, str]]


def key_metrics(models: Sequence[Mapping[str, Any]], most: int) -> list[str]:
    """The first figures of the newest model that has any: the gate names the telling ones first."""
    for model in reversed(models):
        names = [name for name, value in model["metrics"].items() if _is_figure(value)]
        if names:
            return names[:most]
    return []


def figures(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, figure) of every value that is a number, in its order."""
    return [(name, as_figure(value)) for name, value in values.items() if _is_figure(value)]


def as_figure(value: Any) -> str:
    """A share with three decimals, a count as it is; empty for what was not measured."""
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


def findings(report: Mapping[str, Any]) -> list[Found]:
    """The findings of a report as the gate keeps it, those that hold the model first."""
    found = [_found(told) for told in _mappings(report.get("findings"))]
    places = {ruling: place for place, ruling in enumerate(_ORDER)}
    return sorted(found, key=lambda f: places.get(f.ruling, len(places)))


def in_one_sentence(report: Mapping[str, Any]) -> str | None:
    """The verdict as the gate puts it; None where the report has no such sentence."""
    said = report.get("in_one_sentence")
    return said if isinstance(said, str) and said else None


def next_step(model: Mapping[str, Any], *, frozen: bool) -> str:
    """What a person may do about this model now, and by which command."""
    promote = f"`scarwise promote {model['version']} --reason ...`"
    signed = f"who knows better signs for it, with --override: {promote}"
    is_served, taught = "champion" in model["marks"], "It was taught what was forgotten since:"
    if model["tainted"] and is_served:
        return f"{taught} `scarwise retrain` and promote another, or `scarwise rollback`."
    if model["tainted"]:
        return f"{taught} `scarwise retrain` makes another; {signed}."
    if is_served:
        return "It is the champion; `scarwise rollback --reason ...` takes it down."
    if model["verdict"] is None:
        return "The gate has not judged it: `scarwise retrain` finishes the turn that made it."
    if model["verdict"] == "inconclusive":
        return (
            "It is held, for too little was proved: see what is not proven. More resolved "
            f"incidents prove more, at the next `scarwise retrain`; {signed}."
        )
    if model["verdict"] == "fail":
        return (
            "It is held, for something is shown to be wrong with it: see what failed. The next "
            f"`scarwise retrain` makes another of what is new by then; {signed}."
        )
    if frozen:
        return "It passed, and promotion is frozen: `scarwise thaw` ends that."
    if model["promoted_at"]:
        return f"It was served and taken down, see what was done with it; again: {promote}."
    return f"It passed and waits for a person: read what the gate found, then {promote}."


def _found(told: Mapping[str, Any]) -> Found:
    check, ruling, words, rule = (str(told.get(name) or "") for name in _WORDS)
    numbers = told.get("numbers")
    return Found(check, ruling, words, rule, figures(numbers if isinstance(numbers, dict) else {}))


def _mappings(value: Any) -> Iterable[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
