"""How answers look to a person at a terminal; the same words as the API, the console and MCP."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from serving.comparison import figures, findings, in_one_sentence

VERDICTS = {
    "fixed_it": "fixed it",
    "did_not_fix": "did not fix it",
    "same": "same",
    "related": "related",
    "wrong": "wrong",
    "stale": "stale",
}


def console() -> Console:
    """Where answers go; as wide as the terminal, a hundred characters elsewhere."""
    width = None if sys.stdout.isatty() else 100
    return Console(highlight=False, width=width)


def notices() -> Console:
    """Where progress and warnings go."""
    return Console(stderr=True, highlight=False)


def show_answer(out: Console, answer: dict[str, Any]) -> None:
    """A search's hits, best first, with why each is similar and what came of it."""
    if answer["degraded"]:
        out.print(Text(f"! {answer['degraded']}", style="yellow"))
    if not answer["hits"]:
        out.print("Nothing is kept that this could be compared with.")
        return
    if answer["status"] == "novel":
        out.print(Text("Not seen before. The nearest, for what they are worth:", style="bold"))
    for place, hit in enumerate(answer["hits"], 1):
        _hit(out, place, hit)
    footer = f"{answer['query_id']}  {answer['took_ms']:.0f} ms  similar is not the same cause"
    out.print(Text(footer, style="dim"))


def _hit(out: Console, place: int, hit: dict[str, Any]) -> None:
    head = Text(f"{place:>2}. ", style="bold")
    head.append(hit["title"], style="bold")
    if hit["copies"]:
        head.append(f"  (+{len(hit['copies'])} near-copies)", style="dim")
    out.print(head)
    where = [str(hit["started_at"] or "no date")[:10], ", ".join(hit["services"])]
    where += [hit["severity"] or "", f"{hit['source']}:{hit['source_id']}", hit["incident_id"]]
    out.print(Text("    " + "  ".join(w for w in where if w), style="dim"))
    lines = [("why", "; ".join(hit["why"])), ("cause", hit["root_cause"])]
    lines += [("fix", hit["resolution"]), ("held", outcomes_in_words(hit["outcomes"]))]
    for label, text in lines:
        if text:
            _labelled(out, label, _short(text))


def _labelled(out: Console, label: str, text: str) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="cyan", width=7)
    grid.add_column(overflow="fold")
    grid.add_row(Text(label), Text(text))
    out.print(Padding(grid, (0, 0, 0, 4)))


def outcomes_in_words(outcomes: dict[str, int]) -> str:
    """People's verdicts as people say them: `fixed it 2, wrong 1`."""
    return ", ".join(f"{words} {outcomes[v]}" for v, words in VERDICTS.items() if outcomes.get(v))


_RULING_WORDS = {"pass": "passed", "fail": "FAILED", "inconclusive": "UNPROVEN", "note": "note"}
_VERDICT_STYLE = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def show_model(out: Console, model: dict[str, Any]) -> None:
    """One model: what it is, what the gate found on it, and what was done with it."""
    verdict = model["verdict"]
    head = Text(model["name"], style="bold")
    head.append(f"  {(verdict or 'not judged').upper()}", style=_VERDICT_STYLE.get(verdict, ""))
    out.print(head)
    facts = [", ".join(model["marks"]), f"made {str(model['at'])[:16]}", model["dataset"]]
    facts += [f"from diag-v{model['parent']}" if model["parent"] else "from the base"]
    out.print(Text("  ".join(f for f in facts if f), style="dim"))
    if model["tainted"]:
        out.print(Text(f"tainted: it was taught {', '.join(model['tainted'])}", style="yellow"))
    for told in (in_one_sentence(model["report"]), model["next"]):
        if told:
            out.print(Text(f"\n{told}"))
    for found in findings(model["report"]):
        numbers = "  ".join(f"{name} {figure}" for name, figure in found.numbers)
        _section(out, f"{found.check}: {_RULING_WORDS.get(found.ruling, found.ruling)}")
        for text, style in ((found.words, ""), (numbers, "dim"), (found.rule, "dim")):
            if text:
                out.print(Padding(Text(text, style=style), (0, 0, 0, 2)))
    if metrics := figures(model["metrics"]):
        _section(out, "figures")
        table(out, ("figure", "value"), metrics)
    _section(out, "acts")
    acts = [(a["at"][:16], a["actor"], a["act"], a["detail"].get("reason")) for a in model["acts"]]
    table(out, ("at", "actor", "act", "reason"), acts)


def table(out: Console, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under their column names, as wide as they need."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    out.print(grid)


def _short(text: str, most: int = 280) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1].rsplit(" ", 1)[0] + " …"


_STATUS_STYLE = {"known": "bold green", "novel": "bold magenta", "inconclusive": "bold yellow"}
_STATUS_WORDS = {
    "known": "SEEN BEFORE",
    "novel": "NOT SEEN BEFORE",
    "inconclusive": "SIMILAR, BUT NO CAUSE CAN BE NAMED",
}
_RULING_STYLE = {"allowed": "green", "needs_approval": "yellow", "forbidden": "red"}


def show_diagnosis(out: Console, diagnosis: dict[str, Any]) -> None:
    """The answer first, then what it stands on: causes, fixes, differences, checks, precedents."""
    status = diagnosis["status"]
    head = Text(_STATUS_WORDS[status], style=_STATUS_STYLE[status])
    head.append(f"  {diagnosis['confidence_words']}", style="default")
    out.print(head)
    out.print(Text(diagnosis["words"], style="dim"))
    if diagnosis["degraded"]:
        out.print(Text(f"! {diagnosis['degraded']}", style="yellow"))
    if diagnosis["root_cause"]:
        _section(out, "most likely cause")
        _quote(out, diagnosis["root_cause"], diagnosis["citations"][0])
    elif diagnosis["causes"]:
        _section(out, "causes that similar incidents had")
        for cause in diagnosis["causes"][:3]:
            _quote(out, cause["quote"], cause["citations"][0])
    _actions(out, diagnosis["actions"][:4])
    if diagnosis["hypothesis"]:
        _hypothesis(out, diagnosis["hypothesis"])
    if diagnosis["precedents"]:
        _section(out, "nearest" if status == "novel" else "precedents")
    for place, precedent in enumerate(diagnosis["precedents"][:3], 1):
        _precedent(out, place, precedent, diagnosis["differs"])
    if diagnosis["checks"]:
        _section(out, "look whether this is so too")
    for check in diagnosis["checks"][:3]:
        _quote(out, check["quote"], check)
    model = f"  {diagnosis['model']['name']}" if diagnosis["model"] else ""
    footer = f"{diagnosis['query_id']}  {diagnosis['took_ms']:.0f} ms{model}"
    out.print(Text(footer, style="dim"))


def _hypothesis(out: Console, hypothesis: dict[str, Any]) -> None:
    """What the model says by itself: never between quotation marks."""
    _section(out, "a hypothesis, without evidence")
    out.print(Padding(Text(_short(hypothesis["text"], 400)), (0, 0, 0, 2)))
    if hypothesis["fix"]:
        ruling = hypothesis["ruling"]["decision"]
        line = Text(ruling.replace("_", " "), style=_RULING_STYLE[ruling])
        line.append(f"  {_short(hypothesis['fix'], 300)}", style="default")
        out.print(Padding(line, (0, 0, 0, 2)))
    out.print(Padding(Text(hypothesis["words"], style="dim"), (0, 0, 0, 2)))


def _section(out: Console, title: str) -> None:
    out.print()
    out.print(Text(title, style="bold"))


def _quote(out: Console, quote: str, citation: dict[str, Any]) -> None:
    line = Text(f"“{_short(quote, 400)}”")
    line.append(f"  {citation['source_id']} {citation['field']}", style="dim")
    out.print(Padding(line, (0, 0, 0, 2)))


def _actions(out: Console, actions: Sequence[dict[str, Any]]) -> None:
    if actions:
        _section(out, "what was done, the best proven first")
    for action in actions:
        ruling = action["ruling"]
        line = Text(ruling["decision"].replace("_", " "), style=_RULING_STYLE[ruling["decision"]])
        line.append(f"  “{_short(action['text'], 300)}”", style="default")
        line.append(f"  {action['words']}  {action['source_id']}", style="dim")
        out.print(Padding(line, (0, 0, 0, 2)))


def _precedent(
    out: Console, place: int, precedent: dict[str, Any], differs: Sequence[dict[str, Any]]
) -> None:
    line = Text(f"{place}. {precedent['title']}", style="bold" if precedent["supports"] else "")
    when = str(precedent["started_at"] or "")[:10]
    copies = f"  +{precedent['copies']} near-copies" if precedent["copies"] else ""
    line.append(f"  {when}  {precedent['source_id']}{copies}", style="dim")
    out.print(Padding(line, (0, 0, 0, 2)))
    _labelled(out, "why", "; ".join(precedent["why"]))
    mine = [d["words"] for d in differs if d["incident_id"] == precedent["incident_id"]]
    if mine:
        _labelled(out, "differs", "; ".join(mine[:3]))
    if precedent["outcomes"]:
        _labelled(out, "verdict", outcomes_in_words(precedent["outcomes"]))


_SHOWN = ("summary", "symptoms", "root_cause", "resolution", "lessons")


def show_incident(out: Console, view: dict[str, Any]) -> None:
    """Everything that is kept about one incident."""
    out.print(Text(view["title"], style="bold"))
    facts = [view["id"], f"{view['source']}:{view['source_id']}", f"version {view['version']}"]
    facts += [view["status"], view["severity"], ", ".join(view["services"]), view["trust"]]
    out.print(Text("  ".join(str(f) for f in facts if f), style="dim"))
    times = [(n.removesuffix("_at"), view[n]) for n in ("started_at", "resolved_at", "known_at")]
    out.print(Text("  ".join(f"{n} {str(t)[:16]}" for n, t in times if t), style="dim"))
    for reason in view["quarantine"]:
        out.print(Text(f"in quarantine: {reason}", style="yellow"))
    for name in _SHOWN:
        if view[name]:
            _section(out, name.replace("_", " "))
            out.print(Padding(Text(view[name]), (0, 0, 0, 2)))
    if view["actions"]:
        _section(out, "actions")
    for action in view["actions"]:
        held = {True: "held", False: "did not hold", None: ""}[action["held"]]
        out.print(Padding(Text(f"{action['text']}  {held}"), (0, 0, 0, 2)))
    if view["updates"]:
        _section(out, "updates")
    for update in view["updates"]:
        out.print(Padding(Text(f"{str(update['at'] or '')[:16]}  {update['text']}"), (0, 0, 0, 2)))
    _section(out, "versions")
    columns = ("version", "known_at", "recorded_at", "redactions")
    table(out, columns, [[v[c] for c in columns] for v in view["versions"]])
    taught = [*view["lineage"]["datasets"], *view["lineage"]["adapters"]]
    if taught:
        _section(out, "taught")
        out.print(Padding(Text(", ".join(taught)), (0, 0, 0, 2)))
    if view["feedback"]:
        _section(out, "verdicts")
        said = ("id", "verdict", "version", "who", "when", "note")
        table(out, said, [[f[c] for c in said] for f in view["feedback"]])
