"""What every finder reads (a page) and returns (spans): where in a text something must be hidden."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]{1,30}:\d{1,9}>")
HIDDEN = (
    "\x00"  # stands where a placeholder is: no finder can match across it, and records hold no NUL
)
_UNHIDDEN = re.compile(rf"[^\s{HIDDEN}](?:[^{HIDDEN}]*[^\s{HIDDEN}])?")
_COLOUR = re.compile(r"(?:\x1b|␛|\\x1b|\\033|\\u001b|\\e)\[[0-9;]{0,20}[A-Za-z]")


class Span(NamedTuple):
    """`text[start:end]` is of this kind and must not be kept."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Page:
    """A text as finders read it, position for position as long as the original.

    Placeholders are blanked, so that what is hidden is not found again; a terminal's colour codes
    are spaces, so that a key still begins at a word's start. `folded` is the same in lower case.
    """

    text: str
    folded: str

    @classmethod
    def of(cls, text: str) -> "Page":
        text = text.replace(HIDDEN, " ")
        if "<" in text:
            text = PLACEHOLDER.sub(lambda m: HIDDEN * len(m[0]), text)
        if "␛" in text or "\x1b" in text or "\\" in text:
            text = _COLOUR.sub(lambda m: " " * len(m[0]), text)
        # U+0130 is the one character whose lower case is longer than itself.
        return cls(text, text.replace("\u0130", "i").lower())


def settled(spans: Iterable[Span], page: Page) -> list[Span]:
    """The spans in order, overlapping ones joined under the kind that begins first.

    What is hidden already is left out of them, so that hiding always comes to an end.
    """
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if kept and span.start < kept[-1].end:
            kept[-1] = kept[-1]._replace(end=max(kept[-1].end, span.end))
        elif span.end > span.start:
            kept.append(span)
    return [part for span in kept for part in _parts(span, page.text)]


def _parts(span: Span, text: str) -> list[Span]:
    said = text[span.start : span.end]
    if HIDDEN not in said:
        return [span]
    return [
        Span(span.start + m.start(), span.start + m.end(), span.kind)
        for m in _UNHIDDEN.finditer(said)
    ]
