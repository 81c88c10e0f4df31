"""The verdict for people, as Markdown, and for machines, as a dictionary that JSON can hold."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from eval.compare import (
    ARM_WORDS,
    Arms,
    Cell,
    Comparison,
    Incomparable,
    Pair,
    Row,
    arms_of,
    compared,
    refuse_incomparable,
)
from eval.evidence import Evidence, Finding, Rules, Verdict
from eval.families import Count, Group, by_family, by_task

MOST_LOST = 20  # families listed; the JSON has every case
_ARMS = (
    "Share right, with its 95 % interval. The last needs no model: it is the answer of the nearest "
    "precedent, copied."
)
_HEAD = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}


def in_one_sentence(verdict: Verdict) -> str:
    """What the verdict means for who is served, and the first reason or the gain."""
    challenger, champion = verdict.challenger, verdict.champion
    reasons = verdict.reasons
    if verdict.outcome == "pass":
        return (
            f"{challenger} may replace {champion}: it learned the new, kept the old, and every "
            "check holds."
        )
    if verdict.outcome == "fail":
        harm = [r for r in reasons if r.ruling == "fail"]
        return (
            f"{challenger} is held and {champion} stays: "
            f"{_counted(harm, 'thing is', 'things are')} shown to be wrong with it, "
            f"first of all: {harm[0].words}"
        )
    return (
        f"{challenger} is not promoted by itself and {champion} stays: nothing is shown to be "
        f"wrong with it, but {_counted(reasons, 'thing', 'things')} could not be shown; a person "
        "may decide, with a reason on record."
    )


def markdown(verdict: Verdict, evidence: Evidence) -> str:
    """The whole report, the reasons before the tables."""
    return "\n".join([*_head(verdict), *_tables(evidence), *_rest(verdict, evidence)]) + "\n"


def as_dict(verdict: Verdict, evidence: Evidence, rules: Rules) -> dict[str, Any]:
    """The verdict with its findings, the rules, all tables, and what it was measured on."""
    comparison = _comparison(evidence)
    return {
        "outcome": verdict.outcome,
        "in_one_sentence": in_one_sentence(verdict),
        "challenger": verdict.challenger,
        "champion": verdict.champion,
        "reasons": [asdict(f) for f in verdict.reasons],
        "findings": [asdict(f) for f in verdict.findings],
        "rules": asdict(rules),
        "arms": [asdict(row) for row in _arms(evidence)] if comparison else None,
        "slices": [asdict(row) for row in comparison.rows()] if comparison else None,
        "tasks": [asdict(g) for g in by_task(comparison)] if comparison else None,
        "families": [asdict(g) for g in by_family(comparison)] if comparison else None,
        "lost": _cases(comparison.lost) if comparison else None,
        "gained": _cases(comparison.gained) if comparison else None,
        "integrity": evidence.integrity.model_dump(),
        "newest": evidence.newest,
        "retained": list(evidence.retained),
        "measured_on": _measured_on(evidence),
        "meanings": {c: m.model_dump(mode="json") for c, m in evidence.meanings.items()},
    }


def arm_table(rows: Sequence[Arms]) -> list[str]:
    """The arms as lines of Markdown, each share with its 95 % interval."""
    lines = [
        "| cohort | base | base + retrieval | adapter | adapter + retrieval | nearest precedent |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row.base, row.base_retrieval, row.adapter, row.adapter_retrieval, row.copied)
        lines.append(f"| {row.cohort} | {' | '.join(_cell(cell) for cell in cells)} |")
    return lines


def slice_table(rows: Sequence[Row]) -> list[str]:
    """Every slice as lines of Markdown."""
    return [
        "| slice | cases | before | now | change | lower 95 % bound | gained | lost | missing |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_slice_line(row) for row in rows),
    ]


def group_table(groups: Sequence[Group]) -> list[str]:
    """Kinds of question or families as lines of Markdown: right before and right now, by arm."""
    of = any(group.family is not None for group in groups)
    columns = [
        *(["family"] if of else []),
        "cohort",
        "asked",
        *ARM_WORDS.values(),
        "lost",
        "gained",
    ]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for g in groups:
        arms = [_change(g.arms[arm]) if arm in g.arms else "" for arm in ARM_WORDS]
        name = [(g.family or "").replace("|", "/")] if of else []
        cells = [*name, g.cohort, g.task.replace("_", " "), *arms, str(g.lost), str(g.gained)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _head(verdict: Verdict) -> Iterator[str]:
    yield f"# {_HEAD[verdict.outcome]}: {verdict.challenger} against {verdict.champion}"
    yield ""
    yield in_one_sentence(verdict)
    if verdict.reasons:
        yield ""
        yield f"## What holds it ({len(verdict.reasons)})"
        yield ""
    for n, reason in enumerate(verdict.reasons, 1):
        weight = "wrong" if reason.ruling == "fail" else "not shown"
        yield f"{n}. **{reason.check}, {weight}.** {reason.words} Rule: {reason.rule}."


def _tables(evidence: Evidence) -> Iterator[str]:
    comparison = _comparison(evidence)
    if not comparison:
        yield ""
        yield "The transcripts cannot be compared, so there are no tables."
        return
    yield from ["", "## Arms", "", _ARMS]
    yield from ["", *arm_table(_arms(evidence))]
    yield from ["", f"## Slices, {comparison.after} against {comparison.before}"]
    yield from ["", *slice_table(comparison.rows())]
    yield from ["", "## Kinds of question", "", "Right before → right now, of so many."]
    yield from ["", *group_table(by_task(comparison))]
    yield from _forgotten(comparison)


def _forgotten(comparison: Comparison) -> Iterator[str]:
    """Families of which something was lost: the next rehearsal starts there."""
    families = by_family(comparison)
    lost = [group for group in families if group.lost]
    if not lost:
        return
    yield from ["", f"## What only {comparison.before} had right, by family, the worst first"]
    yield from ["", *group_table(lost[:MOST_LOST]), ""]
    if len(lost) > MOST_LOST:
        yield f"And {len(lost) - MOST_LOST} more families, of which less was lost."
    yield f"Of {len(families) - len(lost)} families nothing was lost."


def _rest(verdict: Verdict, evidence: Evidence) -> Iterator[str]:
    for title, ruling in [("What holds", "pass"), ("To know", "note")]:
        found = [f for f in verdict.findings if f.ruling == ruling]
        if found:
            yield from ["", f"## {title}", ""]
            yield from (f"- **{f.check}.** {f.words}" for f in found)
    if evidence.meanings:
        yield from ["", "## What the probes mean", ""]
    for cohort, meaning in evidence.meanings.items():
        yield f"- {cohort}, version {meaning.version} since {meaning.since}: {meaning.line}"
    yield from ["", "## Measured on", ""]
    for what, value in _measured_on(evidence).items():
        yield f"- {what.replace('_', ' ')}: {value}"


def _measured_on(evidence: Evidence) -> dict[str, str]:
    header = evidence.challenger.header
    return {
        "suite": f"{header.suite} ({header.suite_hash[:12]})",
        "prompt": header.prompt_hash,
        "base": header.base_hash,
        "answered_by": str(header.decode.get("endpoint", "the model loaded here")),
        "adapter": header.adapter_sha256 or "none",
        "challenger_answers": evidence.challenger.digest,
        "champion_answers": evidence.incumbent.digest,
        "base_answers": evidence.base.digest,
    }


def _comparison(evidence: Evidence) -> Comparison | None:
    try:
        refuse_incomparable(*evidence.transcripts)
        return compared(evidence.incumbent, evidence.challenger)
    except Incomparable:
        return None


def _arms(evidence: Evidence) -> list[Arms]:
    return arms_of(evidence.base, evidence.challenger, evidence.eras, copied=evidence.copied)


def _cases(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    return [{"case": p.case, "arm": p.arm, "cohort": p.cohort, "family": p.family} for p in pairs]


def _slice_line(row: Row) -> str:
    name, t = f"{row.cohort}, {ARM_WORDS[row.arm]}", row.tally
    if t is None:
        return f"| {name} | 0 | | | | | | | {row.missing} |"
    return (
        f"| {name} | {t.n} | {t.before:.1%} | {t.after:.1%} | {100 * t.difference:+.1f} | "
        f"{100 * t.low:+.1f} | {t.gained} | {t.lost} | {row.missing} |"
    )


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "not measured"
    low, high = cell.interval.low, cell.interval.high
    return f"{cell.share:.1%} ({100 * low:.0f} to {100 * high:.0f}, n = {cell.n})"


def _change(count: Count) -> str:
    return f"{count.before} → {count.after} of {count.n}"


def _counted(reasons: Sequence[Finding], one: str, many: str) -> str:
    return f"{len(reasons)} {one if len(reasons) == 1 else many}"
