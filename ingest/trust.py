"""Who is kept out of search until a person has looked: what tries to steer a model, or to harm."""

import re
from collections.abc import Iterator

from ingest.incident import Incident

_SHOWN = 60  # characters of what was seen, in a reason
_HIDDEN_IN_ONE = 20  # in one text; pages copied from the web hold up to eight (measured)

# Sentences that speak to a model instead of about an incident.
_ADDRESSED = re.compile(
    r"\b(?:ignore|disregard|forget|override)\s+(?:\w+\s+){0,3}?"
    r"(?:previous|prior|above|earlier|preceding)\s+(?:\w+\s+){0,2}?"
    r"(?:instructions?|prompts?|rules|messages?|directions)\b"
    r"|\bignore\s+(?:all\s+)?(?:your|the\s+system)\s+(?:instructions?|prompts?|rules)\b"
    r"|\byou\s+are\s+now\s+(?:a|an|the|in)\b.{0,40}\b(?:assistant|model|ai|mode|dan)\b"
    r"|\b(?:new|updated)\s+system\s+(?:prompt|instructions?)\b"
    r"|\b(?:reveal|print|repeat|show)\s+(?:your|the)\s+(?:system\s+prompt|hidden\s+instructions)\b"
    r"|\bas\s+an\s+ai\s+(?:assistant|model)\b[^.\n]{0,60}\b(?:must|should|will)\b"
    r"|\b(?:to|for|note\s+to|attention)\s+(?:the\s+)?(?:ai|llm|language\s+model)\s+"
    r"(?:assistant|model|agent)?\s*:",
    re.I,
)
_CHAT_MARK = re.compile(
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|begin_of_text)\|>"
    r"|\[/?INST\]|<</?SYS>>|^\s*(?:###\s*)?(?:system|assistant)\s*:\s*you\s+(?:are|must)\b",
    re.I | re.M,
)
_DESTRUCTIVE = re.compile(
    r"\brm\s+-(?=\w*r)(?=\w*f)\w+\s+(?:--no-preserve-root\s+)?(?:/(?:\s|$|\*)|~|\$HOME|/\*)"
    r"|\bdrop\s+(?:database|schema)\b"
    r"|\b(?:curl|wget)\b[^\n|]{0,200}\|\s*(?:sudo\s+)?(?:ba|z|da)?sh\b"
    r"|\bmkfs(?:\.\w+)?\s+/dev/|\bdd\s+if=/dev/(?:zero|random|urandom)\s+of=/dev/"
    r"|\b(?:disable|turn\s+off|switch\s+off)\s+(?:the\s+|all\s+)?"
    r"(?:authentication|audit(?:ing|\s+log(?:ging)?)?|tls\s+verification)\b",
    re.I,
)


def judge(incident: Incident) -> list[str]:
    """Why this incident is to be kept out of search until a person releases it; [] when trusted.

    Expects a redacted incident. A sender may ask for quarantine, and can never ask it away.
    """
    reasons = []
    if incident.trust == "quarantined":
        reasons.append("the sender asked for it to be kept out")
    for field, text in _texts(incident):
        reasons += _steering(field, text)
    for field, text in _fixes(incident):
        seen = _DESTRUCTIVE.search(text)
        if seen:
            reasons.append(f"{field} gives a destructive command as the fix: {_short(seen[0])}")
    return reasons


def _steering(field: str, text: str) -> Iterator[str]:
    if seen := _ADDRESSED.search(text):
        yield f"{field} speaks to a model: {_short(seen[0])}"
    if seen := _CHAT_MARK.search(text):
        yield f"{field} holds the markers of a chat with a model: {_short(seen[0])}"
    if text.count("\ufffd") >= _HIDDEN_IN_ONE:
        yield f"{field} held {text.count(chr(0xFFFD))} hidden characters"


def _texts(incident: Incident) -> Iterator[tuple[str, str]]:
    for field in ("title", "summary", "symptoms", "root_cause", "resolution", "lessons"):
        if text := getattr(incident, field):
            yield field, text
    for n, update in enumerate(incident.updates):
        yield f"updates[{n}]", update.text
    for n, action in enumerate(incident.actions):
        yield f"actions[{n}]", action.text
    for n, evidence in enumerate(incident.evidence):
        yield f"evidence[{n}]", evidence.text
    for name, label in incident.labels.items():
        if label:
            yield f"labels.{name}", label


def _fixes(incident: Incident) -> Iterator[tuple[str, str]]:
    if incident.resolution:
        yield "resolution", incident.resolution
    for n, action in enumerate(incident.actions):
        yield f"actions[{n}]", action.text


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return f"“{flat[:_SHOWN]}”" if len(flat) <= _SHOWN else f"“{flat[:_SHOWN]}…”"
