"""What every finder reads, a page, and returns: spans, where something must be hidden."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]{1,30}:\d{1,9}>")
HIDDEN = "\x00"  # where a placeholder stood: no finder matches across it, and records hold no NUL
_UNHIDDEN = re.compile(rf"[^\s{HIDDEN}](?:[^{HIDDEN}]*[^\s{HIDDEN}])?")
# A terminal's colours, raw or written out, and the line ends and tabs of a quoted text.
_BLANKS = re.compile(
    r"(?:\x1b|␛|\\x1b|\\033|\\u001b|\\e)\[[0-9;]{0,20}[A-Za-z]|\\{1,4}t|(?P<line>\\{1,4}[nr])"
)
# What URLs, JSON and HTML write instead of a sign.
_SIGNS = re.compile(
    r"%(?:2[0267C]|3[AD]|7[BD]|0[AD])|\\{1,2}u00(?:2[267]|3[ACDE])|&(?:quot|apos|amp|#34|#39|#61);",
    re.IGNORECASE,
)
_NAMED_SIGNS = {"quot": '"', "apos": "'", "amp": "&", "#34": '"', "#39": "'", "#61": "="}


class Span(NamedTuple):
    """`text[start:end]` is of this kind and must not be kept."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Page:
    """A text as finders read it, position for position as long as the original.

    In `raw`, placeholders are hidden, so that nothing is found twice, and colours and written line
    ends are blanks. In `text`, signs written as ``%3D`` are signs as well, so that a key begins at
    a word's start; `folded` is that in lower case.
    """

    raw: str
    text: str
    folded: str

    @classmethod
    def of(cls, text: str) -> "Page":
        raw = text.replace(HIDDEN, " ")
        if "<" in raw:
            raw = PLACEHOLDER.sub(lambda m: HIDDEN * len(m[0]), raw)
        if "\\" in raw or "\x1b" in raw or "␛" in raw:
            raw = _BLANKS.sub(_blank, raw)
        text = _SIGNS.sub(_sign, raw) if "%" in raw or "&" in raw or "\\" in raw else raw
        # U+0130 is the one character whose lower case is longer than itself.
        return cls(raw, text, text.replace("\u0130", "i").lower())


def _blank(written: re.Match[str]) -> str:
    return " " * (len(written[0]) - 1) + ("\n" if written["line"] else " ")


def _sign(written: re.Match[str]) -> str:
    """The sign, as long as what stands for it: a quote as many quotes, any other after blanks."""
    name = written[0].strip("&;").lower()
    sign = _NAMED_SIGNS.get(name) or chr(int(name[-2:], 16))
    return sign * len(written[0]) if sign in "\"'" else " " * (len(written[0]) - 1) + sign


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
