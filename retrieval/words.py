"""What counts as a word of an incident, and which of its text is looked through."""

import re

from ingest.incident import Incident

# The 33 English words that Lucene leaves out; the baseline we are measured against does too.
_STOPS = """a an and are as at be but by for if in into is it no not of on or such
that the their then there these they this to was will with"""
STOP_WORDS = frozenset(_STOPS.split())

_WORD = re.compile(r"\w\w+")
# Joined by - or . and numbered, such as db-3, http-503 or eu-west-1: a name of its own. Its length
# is bounded, or a long chain of hyphens would take the square of that time.
_NUMBERED = re.compile(r"\b[A-Za-z]\w{0,40}(?:[-.][A-Za-z]\w{0,40}){0,5}[-.]\d\w*(?:[-.]\w+)*")
_JOINT = re.compile(r"\w[-.]\d")
_HUMP = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_DIGIT = re.compile(r"\d")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")

MOST_SERVICES = 20  # an outage of everything names hundreds; they would crowd out what was seen


def words(text: str) -> list[str]:
    """The words of a text in small letters, each followed by those that it is made of."""
    return [form for word in as_written(text) for form in forms(word)]


def as_written(text: str) -> list[str]:
    """The words of a text, two characters or longer, then its numbered names."""
    # Few texts name one: a look for the joint spares the slow pattern.
    names = _NUMBERED.findall(text) if _JOINT.search(text) else []
    return _WORD.findall(text) + names


def forms(word: str) -> list[str]:
    """A word in small letters, then those that it is made of: OOMKilled is also oom and killed."""
    return [word.lower(), *(part.lower() for part in _parts(word) if len(part) > 1)]


def _parts(word: str) -> list[str]:
    """What an identifier is made of; names of products (DynamoDB, GitHub) are not taken apart."""
    if not word.isascii() and _CJK.search(word):
        return [word[n : n + 2] for n in range(len(word) - 1)] if len(word) > 2 else []
    # Between the digits of a timestamp or a hash there are no words.
    if (word.islower() and "_" not in word) or _DIGIT.search(word):
        return []
    parts = _HUMP.findall(word)
    acronym_first = len(parts) == 2 and len(parts[0]) > 1 and parts[0].isupper()
    made_of = len(parts) > 2 or "_" in word or (acronym_first and len(parts[1]) > 2)
    return parts if made_of else []


def passage(incident: Incident) -> str:
    """What is embedded and looked through of an incident: what was seen, then what it was."""
    parts = [
        incident.title,
        ", ".join(incident.services[:MOST_SERVICES]),
        incident.symptoms,
        incident.summary,
        *(evidence.text for evidence in incident.evidence),
        *(update.text for update in incident.updates),
        incident.root_cause,
        incident.resolution,
        *(action.text for action in incident.actions),
        incident.lessons,
    ]
    said = list(dict.fromkeys(part for part in parts if part))
    # A title that is only the beginning of what follows is not said twice.
    cut = len(said) > 1 and any(part.startswith(incident.title) for part in said[1:])
    return "\n".join(said[1:] if cut else said)
