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


def _found(told: Mapping[str, Any]) -> Found:
    check, ruling, words, rule = (str(told.get(name) or "") for name in _WORDS)
    numbers = told.get("numbers")
    return Found(check, ruling, words, rule, figures(numbers if isinstance(numbers, dict) else {}))


def _mappings(value: Any) -> Iterable[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
