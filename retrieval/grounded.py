"""A model's reply, checked against the precedents it was shown; no model is in here.

What a precedent states is quoted from it and may be named as the cause. What none states stays the
model's own words, a hypothesis, and changes no conclusion:

    the memory says   known                   inconclusive         novel
    the model says
      a stated cause  known, in its words     known                inconclusive: stated, but far off
      an unstated one known, + hypothesis     as is, + hypothesis  as is, + hypothesis
      novel           inconclusive, both said novel                novel
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingest.redact import redact_text
from retrieval.claims import Cause, is_disowned, statement
from retrieval.claims import precedents as nearest
from retrieval.diagnosis import Diagnosis, Hypothesis, Status, named_words
from retrieval.fixes import Fix, contradicts, fixes
from retrieval.policy import rule_on
from retrieval.prompt import Prompt, Reply
from retrieval.quotes import Citation, cite, clipped, fields, key, sentences, stems
from retrieval.search import Hit

# A model that was taught to quote rarely rewords; nearly all of its words have to be there.
SAID_IN_QUOTE = 0.85
QUOTE_IN_SAID = 0.5
OWN_WORDS = "the model's own words: learned from earlier incidents, no precedent shown states it"
DISOWNED = "the model's own words: only precedents that people marked wrong or stale state it"
OWN_FIX = "a precedent states the cause; the fix is the model's own words, no precedent shows it"
WITHHELD = "; the fix it names is forbidden and not shown"

SAME = "Similar incidents had this cause. Similar is not the same: read what differs first."
CHOSEN = (
    "Similar incidents had different causes; the model recognises this one. "
    "Similar is not the same: read what differs first."
)
OTHERWISE = (
    "The model recognises this cause, which a similar incident had; most of the similar ones had "
    "another. Read what differs first."
)
FAR = (
    "The model recognises a cause that a precedent states, but nothing in memory is close enough "
    "to call it seen."
)
UNRECOGNISED = "Similar incidents agree on a cause, but the model calls this alert new."
NEW = {
    "novel": "Not seen before: nothing in memory is close enough, and the model calls it new too.",
    "inconclusive": "Not seen before: the model calls it new, and the similar incidents agree on "
    "no cause.",
}


@dataclass(frozen=True, slots=True)
class _Stated:
    """The span in which a precedent states the model's cause."""

    citation: Citation
    hit: Hit


def grounded(
    diagnosis: Diagnosis,
    prompt: Prompt,
    reply: Reply,
    hits: Sequence[Hit],
    model: Mapping[str, str],
) -> Diagnosis:
    """The diagnosis with what the model adds to it, by the table above; `model` says which one.

    Every quote still stands letter by letter in its incident version, every action is ruled on,
    and a forbidden one is never first. Numbers that point at no precedent shown are passed over.
    """
    diagnosis = diagnosis.model_copy(update={"model": dict(model)})
    if reply.status == "novel" or not reply.cause:
        return _called_new(diagnosis)
    shown = _in_order(prompt, reply, hits)
    stated = _stated(reply.cause, [hit for hit in shown if not is_disowned(hit)])
    if stated is None:
        disowned = _stated(reply.cause, shown) is not None
        own = _own_words(reply.cause, reply.fix, DISOWNED if disowned else OWN_WORDS)
        return diagnosis.model_copy(update={"hypothesis": own})
    return _named(diagnosis, reply, stated, hits)


def _called_new(diagnosis: Diagnosis) -> Diagnosis:
    if diagnosis.status != "known":
        told = {"words": NEW[diagnosis.status], "confidence_words": "not seen before"}
        return diagnosis.model_copy(update={"status": "novel", **told})
    return diagnosis.model_copy(
        update={
            "status": "inconclusive",
            "words": UNRECOGNISED,
            "root_cause": None,
            "confidence_words": f"{diagnosis.confidence_words}, but the model calls it new",
            "precedents": [p.model_copy(update={"supports": False}) for p in diagnosis.precedents],
        }
    )


def _named(diagnosis: Diagnosis, reply: Reply, stated: _Stated, hits: Sequence[Hit]) -> Diagnosis:
    """The cause that a precedent states, its fixes first; not named where search says novel."""
    named, others = _parted(diagnosis.causes, stated)
    supporting = frozenset(named.supported_by)
    contrary = {name for cause in others for name in cause.supported_by}
    if diagnosis.status == "novel":  # what is far off lends its fixes only where it has the cause
        contrary = {key(hit.stored)[0] for hit in hits}
    done = fixes(nearest(hits), supporting, frozenset(contrary) - supporting)
    done, own_fix = _model_s_first(done, reply.fix, stated.hit)
    status: Status = "inconclusive" if diagnosis.status == "novel" else "known"
    return diagnosis.model_copy(
        update={
            "status": status,
            "words": _words(diagnosis, named),
            "root_cause": named.quote if status == "known" else None,
            "causes": [named, *others],
            "citations": named.citations,
            "actions": done,
            "confidence_words": named_words(named, done),
            "precedents": [
                p.model_copy(update={"supports": p.incident_id in supporting})
                for p in diagnosis.precedents
            ],
            "hypothesis": _own_words(named.quote, reply.fix, OWN_FIX) if own_fix else None,
        }
    )


def _words(diagnosis: Diagnosis, named: Cause) -> str:
    if diagnosis.status == "novel":
        return FAR
    if diagnosis.status == "inconclusive":
        return CHOSEN
    before = diagnosis.causes[0].supported_by if diagnosis.causes else []
    return SAME if set(before) == set(named.supported_by) else OTHERWISE


def _in_order(prompt: Prompt, reply: Reply, hits: Sequence[Hit]) -> list[Hit]:
    """The precedents that the prompt showed, those that the reply cites before the others."""
    at = {key(hit.stored): hit for hit in hits}
    shown = [at.get(name) for name in prompt.precedents]
    cited = [n - 1 for n in dict.fromkeys(reply.cites) if 0 < n <= len(shown)]
    order = [*cited, *(n for n in range(len(shown)) if n not in cited)]
    return [hit for n in order if (hit := shown[n]) is not None]


def _stated(cause: str, shown: Sequence[Hit]) -> _Stated | None:
    for hit in shown:
        if span := _span(cause, list(_causes_in(hit))):
            return _Stated(span, hit)
    return None


def _causes_in(hit: Hit) -> Iterator[Citation]:
    """Where this incident says what caused it; nowhere when it says that nobody knows."""
    best = statement(hit.stored, frozenset())
    if best is None:
        return
    yield from _sentences(hit, "root_cause")
    yield best


def _sentences(hit: Hit, *names: str) -> Iterator[Citation]:
    for name, text in fields(hit.stored.incident, names):
        for sentence in sentences(text):
            if citation := cite(hit.stored, name, clipped(sentence)):
                yield citation


def _span(said: str, spans: Sequence[Citation]) -> Citation | None:
    """The span that says the same, word for word where there is one, else in nearly its words."""
    same = next((s for s in spans if _plain(s.quote) == _plain(said)), None)
    return same or next((s for s in spans if _says(s.quote, said)), None)


def _says(quote: str, said: str) -> bool:
    """Whether the quote states what was said: its words, its numbers, and nothing contrary."""
    own, theirs = stems(said), stems(quote)
    shared = len(own & theirs)
    if shared < max(2.0, SAID_IN_QUOTE * len(own)) or shared < QUOTE_IN_SAID * len(theirs):
        return False
    return _numbered(said) <= _numbered(quote) and not contradicts(said, quote)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!? ")


def _numbered(text: str) -> set[str]:
    """The words with a digit: hosts, codes, versions, amounts."""
    return {word.strip(".-:") for word in _NUMBERED.findall(text.casefold())}


_NUMBERED = re.compile(r"[\w.:-]{0,40}\d[\w.:-]{0,40}")


def _parted(causes: Sequence[Cause], stated: _Stated) -> tuple[Cause, list[Cause]]:
    """The cause of the precedent that states it, in the words of this one, and the others."""
    citation = stated.citation
    group = next((c for c in causes if citation.incident_id in c.supported_by), None)
    if group is None:
        alone = Cause(
            quote=citation.quote,
            family=stated.hit.stored.incident.cause_family,
            by_family=False,
            supported_by=[citation.incident_id],
            seen=1,
            words="one similar incident had this cause",
            citations=[citation],
        )
        return alone, list(causes)
    rest = [c for c in group.citations if c.incident_id != citation.incident_id]
    said = {"quote": citation.quote, "citations": [citation, *rest]}
    return group.model_copy(update=said), [c for c in causes if c is not group]


def _model_s_first(done: list[Fix], said: str | None, hit: Hit) -> tuple[list[Fix], bool]:
    """The fixes with the one that the model names first; whether it is in its own words only.

    What is forbidden, or failed more often than it held, keeps its place at the back.
    """
    if not said:
        return done, False
    fix = next((f for f in done if _plain(f.text) == _plain(said)), None)
    fix = fix or next((f for f in done if _says(f.text, said)), None)
    if fix is None:
        span = _span(said, list(_sentences(hit, "actions", "resolution")))
        if span is None:
            return done, True
        fix = _unproven(span)
    others = [f for f in done if f is not fix]
    if fix.ruling.decision == "forbidden" or fix.did_not_hold > fix.held:
        return (done if fix in done else [*done, fix]), False
    return [fix, *others], False


def _unproven(span: Citation) -> Fix:
    return Fix(
        **span.model_dump(exclude={"quote"}),
        text=span.quote,
        also=[],
        ruling=rule_on(span.quote),
        held=0,
        did_not_hold=0,
        words="nobody recorded whether it held",
    )


def _own_words(cause: str, fix: str | None, words: str) -> Hypothesis:
    """What the model says by itself, without secrets; a forbidden fix is ruled on, not shown."""
    said = redact_text(fix)[0] if fix else None
    ruling = rule_on(said) if said else None
    forbidden = ruling is not None and ruling.decision == "forbidden"
    return Hypothesis(
        text=redact_text(cause)[0],
        fix=None if forbidden else said,
        ruling=ruling,
        words=words + (WITHHELD if forbidden else ""),
    )
