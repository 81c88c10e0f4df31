"""Pictures as SVG to stand in a page: drawn from plain numbers, coloured by the page's own style.

Text is escaped here. Every mark has a title for who points at it, every picture says in words what
it shows, and no line rests on its colour alone: it is named where it ends, and dashed in its way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Points = Sequence[tuple[float, float]]  # in pixels

_LEFT, _TOP, _BOTTOM = 40.0, 14.0, 30.0
_NEAR = 15.0  # pixels: names closer than this would overlap
_THIN = 5  # cases, below which a point is drawn hollow
_WIDE, _HALF = 760.0, 370.0
_LETTER = 6.6  # pixels that a letter of a label takes, about


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: `name` is written at its end, `style` is a class of the page from c0 to c3.

    `bounds` are (low, high) at some of the places, counted from 0.
    """

    name: str
    style: str
    shares: Sequence[float]
    bounds: Sequence[tuple[int, float, float]] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a bar: so many, called so."""

    name: str
    style: str
    count: int


@dataclass(frozen=True, slots=True)
class Dot:
    """What was measured of `of` cases in one stretch of time; None where there were none."""

    label: str
    value: float | None
    of: int


def curves(lines: Sequence[Curve], *, says: str, under: str) -> Markup:
    """Shares from 0 to 1 over the places 1, 2, 3, ..., several lines in one picture."""
    wide, high, right = _WIDE, 300.0, 196.0
    across, down = wide - _LEFT - right, high - _TOP - _BOTTOM
    most = max(2, *(len(line.shares) for line in lines))
    top = _ceiling(max(max(line.shares, default=0) for line in lines))

    def at(place: int, share: float) -> tuple[float, float]:
        return _LEFT + across * place / (most - 1), _TOP + down * (1 - share / top)

    drawn = [_shares_axis(across, down, top)]
    drawn += [_text(at(n, 0)[0], high - 10, str(n + 1), "middle") for n in range(most)]
    drawn.append(_text(wide - right + 20, high - 10, under))
    for line in reversed(lines):
        drawn += [_whisker(at(n, low), at(n, top_)[1]) for n, low, top_ in line.bounds]
        drawn.append(_line([at(n, share) for n, share in enumerate(line.shares)], line.style))
        drawn += [
            _dot(*at(n, share), line.style, f"{line.name}: {share:.0%} within the first {n + 1}")
            for n, share in enumerate(line.shares)
        ]
    ends = [(at(len(line.shares) - 1, line.shares[-1])[1], line) for line in lines if line.shares]
    for y, (_, line) in zip(_spread([y for y, _ in ends]), ends, strict=True):
        words = f"{line.name} {line.shares[-1]:.0%}"
        drawn.append(_text(wide - right + 10, y + 4, words, style=f"name {line.style}"))
    return _picture(wide, high, says, drawn)


def columns(
    labels: Sequence[str], series: Sequence[tuple[str, str, Sequence[int]]], *, says: str
) -> Markup:
    """Counts side by side over labels; `series` are (name, style, counts)."""
    wide, high = _WIDE, 250.0
    across, down = wide - _LEFT - 8, high - 34 - _BOTTOM
    most = max(1, *(count for _, _, counts in series for count in counts))
    step = across / len(labels)
    each = min(26.0, 0.8 * step / max(1, len(series)))
    drawn, key_at = [], _LEFT
    for name, style, _ in series:
        drawn.append(Markup('<rect class="{}" x="{:.1f}" y="4" width="11" height="11" rx="2"/>')
                     .format(f"fill {style}", key_at))  # fmt: skip
        drawn.append(_text(key_at + 17, 14, name))
        key_at += 34 + _LETTER * len(name)
    for n, label in enumerate(labels):
        middle = _LEFT + step * (n + 0.5)
        drawn.append(_text(middle, high - 10, label, "middle"))
        for k, (name, style, counts) in enumerate(series):
            tall = down * counts[n] / most
            x, y = middle + each * (k - len(series) / 2), high - _BOTTOM - tall
            words = f"{name}, {label}: {counts[n]}"
            drawn.append(_rect(x, y, each - 2, tall, style, words))
            if counts[n]:
                drawn.append(_text(x + each / 2 - 1, y - 4, str(counts[n]), "middle", "small"))
    drawn.append(_rule(_LEFT, high - _BOTTOM, _LEFT + across))
    return _picture(wide, high, says, drawn)


def bars(rows: Sequence[tuple[str, Sequence[Part]]], *, says: str) -> Markup:
    """One bar a row, cut into its parts; every bar is as long as the others."""
    wide, tall, gap, left = _WIDE, 34.0, 30.0, 2.0
    drawn = []
    for n, (name, parts) in enumerate(rows):
        y, x, total = n * (tall + gap) + 20, left, sum(part.count for part in parts)
        drawn.append(_text(left, y - 6, name, style="name"))
        for part in (p for p in parts if p.count):
            width = (wide - 4) * part.count / total
            words = f"{part.name}: {part.count} of {total} ({part.count / total:.0%})"
            drawn.append(_rect(x, y, max(1.0, width - 2), tall, part.style, words))
            said = next(
                (s for s in (f"{part.count:,} {part.name}", f"{part.count:,}")
                 if _LETTER * len(s) < width - 22), None,
            )  # fmt: skip
            if said:
                drawn.append(_text(x + 8, y + tall / 2 + 4.5, said, style=f"on {part.style}"))
            x += width
    return _picture(wide, len(rows) * (tall + gap) + 4, says, drawn)


def over_time(dots: Sequence[Dot], *, says: str, style: str = "c0", shares: bool = True) -> Markup:
    """One measure over stretches of time; hollow where few cases stand behind it."""
    wide, high, right = _HALF, 170.0, 12.0
    across, down = wide - _LEFT - right, high - _TOP - _BOTTOM
    values = [dot.value for dot in dots if dot.value is not None]
    top = 1.0 if shares else _round_up(max(values, default=1))
    step = across / max(1, len(dots) - 1)

    def at(n: int, value: float) -> tuple[float, float]:
        return _LEFT + step * n, _TOP + down * (1 - value / top)

    drawn = [_shares_axis(across, down, top) if shares else _counts_axis(across, down, top)]
    for run in _runs(dots):
        drawn.append(_line([at(n, dots[n].value or 0) for n in run], style))
    for n, dot in enumerate(dots):
        if dot.value is not None:
            said = f"{dot.value:.0%} of {dot.of}" if shares else f"{dot.value:,.0f}"
            thin = shares and dot.of < _THIN
            drawn.append(
                _dot(*at(n, dot.value), f"{style} thin" if thin else style, f"{dot.label}: {said}")
            )
    last = len(dots) - 1
    for n in sorted({round(last * k / 3) for k in range(4)}):
        anchor = "middle" if 0 < n < last else "end" if n else "start"
        drawn.append(_text(at(n, 0)[0], high - 6, dots[n].label, anchor))
    return _picture(wide, high, says, drawn)


def _runs(dots: Sequence[Dot]) -> list[list[int]]:
    """The places of neighbouring dots that were measured."""
    runs: list[list[int]] = [[]]
    for n, dot in enumerate(dots):
        if dot.value is None:
            runs.append([])
        else:
            runs[-1].append(n)
    return [run for run in runs if run]


def _ceiling(most: float) -> float:
    """Where a scale of shares ends: half of it empty says less."""
    return next(top for top in (0.1, 0.25, 0.5, 0.75, 1.0) if most <= top or top == 1.0)


def _round_up(most: float) -> float:
    scale = 10.0 ** max(0, len(str(int(most))) - 1)
    return float(next(m * scale for m in (1, 2, 3, 4, 5, 6, 8, 10) if m * scale >= most))


def _spread(ys: Sequence[float]) -> list[float]:
    """The same heights, moved apart where two names would overlap; in the order given."""
    order = sorted(range(len(ys)), key=lambda n: ys[n])
    placed: dict[int, float] = {}
    last = float("-inf")
    for n in order:
        placed[n] = last = max(ys[n], last + _NEAR)
    return [placed[n] for n in range(len(ys))]


def _shares_axis(across: float, down: float, top: float) -> Markup:
    steps = 5 if round(top * 100) in (25, 75) else 4
    return _axis(across, down, [(k / steps, f"{top * k / steps:.0%}") for k in range(steps + 1)])


def _counts_axis(across: float, down: float, top: float) -> Markup:
    return _axis(across, down, [(k / 2, f"{top * k / 2:,.0f}") for k in range(3)])


def _axis(across: float, down: float, marks: Sequence[tuple[float, str]]) -> Markup:
    drawn = [Markup("")]
    for share, said in marks:
        y = _TOP + down * (1 - share)
        drawn += [_rule(_LEFT, y, _LEFT + across), _text(_LEFT - 7, y + 4, said, "end")]
    return Markup("").join(drawn)


def _picture(wide: float, high: float, says: str, drawn: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" '
        'xmlns="http://www.w3.org/2000/svg">{}</svg>'
    ).format(wide, high, says, Markup("").join(drawn))


def _text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, style, words
    )


def _line(points: Points, style: str) -> Markup:
    told = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="line {}" points="{}"/>').format(style, told)


def _dot(x: float, y: float, style: str, words: str) -> Markup:
    return Markup(
        '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3.6"><title>{}</title></circle>'
    ).format(style, x, y, words)


def _rect(x: float, y: float, wide: float, tall: float, style: str, words: str) -> Markup:
    return Markup(
        '<rect class="fill {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="3">'
        "<title>{}</title></rect>"
    ).format(style, x, y, wide, tall, words)


def _rule(left: float, y: float, right: float) -> Markup:
    return Markup('<line class="rule" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        left, y, right, y
    )


def _whisker(low: tuple[float, float], high: float) -> Markup:
    return Markup('<line class="whisker" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        low[0], low[1], low[0], high
    )
