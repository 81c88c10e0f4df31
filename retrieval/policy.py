"""Rule on a proposed action: allowed, needs approval or forbidden; by rule, never by a model.

A look-up is allowed, a change needs somebody's approval, and what no rollback brings back is
forbidden. What no rule knows needs approval. Of several steps in one text the worst decides.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict

from retrieval import dangers, lookups
from retrieval.dangers import Rule

Decision = Literal["allowed", "needs_approval", "forbidden"]

LONGEST_LOOK_UP = 2_000  # characters: nobody reads a longer one before running it


class Ruling(BaseModel):
    """What may be done with an action, the id of the rule that says so, and its sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Decision
    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class _Danger:
    rule: Rule
    only_warned_of: bool


def rule_on(action: str) -> Ruling:
    """The ruling on one action, be it a sentence or a command.

    Words added to a forbidden action never make it allowed. A warning ("do not delete the
    volume") is no order to do the thing, so it is not forbidden; it is never allowed unread.
    """
    text = plain(action)
    danger = _danger(text.replace("\t", " "))
    if danger and not danger.only_warned_of:
        return _ruling("forbidden", danger.rule)
    if danger:
        return _ruling("needs_approval", dangers.WARNING)
    if _is_disguised(action):
        return _ruling("needs_approval", lookups.DISGUISED)
    if _only_looks(text):
        return _ruling("allowed", lookups.LOOK_UP)
    flat = text.replace("\t", " ")
    change = next((rule for rule in lookups.CHANGES if _reader(rule).search(flat)), None)
    return _ruling("needs_approval", change or lookups.UNKNOWN)


def plain(action: str) -> str:
    """The action in small Latin letters without quoting; "\\n" ends a step, "\\t" a line of one.

    What a shell or a reader sees through is seen through here: look-alike letters, hidden
    characters, quotes inside of words, continued lines, dashes that a word processor made.
    """
    text = action.casefold() if action.isascii() else _unmasked(action)
    text = _QUOTING.sub("", _BLANKS.sub(" ", text))
    text = _STEP_END.sub("\v", _LIST_ITEM.sub("\v", text))
    text = re.sub(r"[^\S\n\v]+", " ", text)
    text = re.sub(r" ?\n[\n ]*", "\t", text)
    return re.sub(r"[ \t\v]*\v[ \t\v]*", "\n", text).strip()


def _unmasked(action: str) -> str:
    text = unicodedata.normalize("NFKD", action).casefold()
    text = "".join(c for c in text if unicodedata.category(c) not in _UNSEEN)
    return text.translate(_LOOK_ALIKES)


def _danger(text: str) -> _Danger | None:
    """The first forbidden act by the order of the table; one only warned of counts last."""
    warned_of: _Danger | None = None
    for rule in dangers.FORBIDDEN:
        for found in _reader(rule).finditer(text):
            if not _is_warning(text[max(0, found.start() - 160) : found.start()]):
                return _Danger(rule, only_warned_of=False)
            warned_of = warned_of or _Danger(rule, only_warned_of=True)
    return warned_of


def _is_warning(before: str) -> bool:
    """Whether the words right before a forbidden act turn it into a warning, and only once."""
    step = re.split(r"[\n;&|:()]", before)[-1]
    warns = _compiled(dangers.WARNS).search(step)
    return warns is not None and len(_compiled(dangers.NEGATION).findall(step)) == 1


def _is_disguised(action: str) -> bool:
    """Whether the text hides characters, or has a word of two alphabets."""
    if action.isascii():
        return False
    # U+FFFD is what `ingest.incident.visible` leaves where something was hidden.
    if "\ufffd" in action or any(unicodedata.category(c) in _HIDDEN for c in action):
        return True
    words = re.findall(r"[^\W\d_]+", action)
    return any(_mixes_alphabets(word) for word in words if not word.isascii())


def _mixes_alphabets(word: str) -> bool:
    alphabets = {unicodedata.name(c, "?").partition(" ")[0] for c in word if c not in "µμΩΩ"}
    return "LATIN" in alphabets and bool(alphabets & {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"})


def _only_looks(text: str) -> bool:
    """Whether every step is a look-up, and nothing resembles a danger or an effect."""
    if not text or len(text) > LONGEST_LOOK_UP or _resembles_danger(text.replace("\t", " ")):
        return False
    if any(_compiled(effect).search(text) for effect in lookups.EFFECTS):
        return False
    return all(_line_only_looks(line) for line in text.split("\n"))


def _line_only_looks(line: str) -> bool:
    looking = False
    for part in _compiled(lookups.STEP_BREAK).split(line):
        step = _compiled(lookups.LEAD_IN).sub("", part.strip(" .!?-"), count=1)
        if not step:
            continue
        if not _looks(step, looking=looking):
            return False
        looking = True
    return looking


def _looks(step: str, *, looking: bool) -> bool:
    """Whether this step only looks; after a look-up, a bare list of more to see does too."""
    looks = _compiled(lookups.LOOK).match(step)
    if not looks and not (looking and _compiled(lookups.MORE_TO_SEE).match(step)):
        return False
    found = (m for rule in lookups.CHANGES for m in _reader(rule).finditer(step))
    return all(_only_names(step, change) for change in found)


def _only_names(step: str, change: re.Match[str]) -> bool:
    """Whether a word of change only names a thing or a state: "restart count", "was scaled"."""
    before, after = step[: change.start()], step[change.end() :]
    if after.startswith("/") or _compiled(lookups.STATE_AFTER).match(after):
        return True
    done = change[0].endswith("ed")
    if done and _compiled(lookups.WHETHER_BEFORE).search(before):
        return True
    named = _compiled(lookups.NAMED_BEFORE).search(before)
    if not _compiled(lookups.THEN).match(after):
        return bool(done and named and _compiled(lookups.THING_THEN).match(after))
    is_state = named or _compiled(lookups.WAS_BEFORE).search(before)
    return bool(is_state or change[0].endswith("s") or _compiled(lookups.WAIT_BEFORE).match(before))


def _resembles_danger(text: str) -> bool:
    """Whether a forbidden pattern occurs when boundaries and exceptions are left out.

    This keeps the promise of `rule_on`: words put around a forbidden act may break a boundary
    or bring in an exception, but what is left of the pattern still occurs.
    """
    return any(_reader(rule, loosely=True).search(text) for rule in dangers.FORBIDDEN)


def _ruling(decision: Decision, rule: Rule) -> Ruling:
    return Ruling(decision=decision, rule=rule.id, why=rule.why)


@cache
def _reader(rule: Rule, *, loosely: bool = False) -> re.Pattern[str]:
    pattern = "|".join(rule.patterns)
    for around in dangers.LOOKS_AROUND if loosely else ():
        pattern = pattern.replace(around, "")
    return re.compile(pattern)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_HIDDEN = ("Cf", "Co", "Cn", "Cs")
_UNSEEN = ("Mn", "Me", *_HIDDEN)
# Letters and signs drawn like Latin ones, as they are after NFKD and case folding.
_PAIRS = (
    "аa вb сc ԁd еe ɡg һh іi јj кk ӏl мm нh оo пn рp ԛq ѕs тt цu ѵv ԝw хx уy гr αa βb εe ηn ιi κk"
    " νv οo ρp τt υu χx ωw γy ıi ɑa ɩi ɴn ʀr ʙb ᴅd ᴇe ᴏo ᴛt ᴜu ᴀa ᴄc ᴋk ᴍm ᴘp ᴠv ᴡw ᴢz øo đd ħh łl"
    " ŧt ոn օo սu հh ‐- ‑- ‒- –- —- ―- −- ⁄/ ∕/ ∖\\ ∣| ǀl"
)
_LOOK_ALIKES = {ord(pair[0]): pair[1] for pair in _PAIRS.split()} | {0xFFFD: None}
_BLANKS = re.compile(r"\\\r?\n|\$\{ifs[^{}\n]{0,20}\}|\$ifs(?![a-z])(?:\$\d)?|/\*\*/")
_QUOTING = re.compile(
    r"[\"'`´‘’‚“”„«»^\\]|</?(?:b|i|em|strong|code|pre)>"
    r"|\*{1,3}(?=\w)|(?<=\w)\*{1,3}|(?<![^\W_])_+|_+(?![^\W_])"
)
_LIST_ITEM = re.compile(r"(?:^|\n)[ \t]*(?:[-+*•#$%]+ |\d{1,3}[.)] |\[.\] )|\n[ \t]*\n")
_STEP_END = re.compile(r"(?<![.!?])[.!?]+(?=\s)|;")
