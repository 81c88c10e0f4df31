"""Who is kept out of search until a person has looked: what tries to steer a model, or to harm.

It is a net with known holes, not a proof: a patient author can phrase around it. Whatever passes,
an action is still allowed by rule and never because a text says so.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from ingest.incident import Incident
from ingest.redact import redact_text

_SHOWN = 60  # characters of what was seen, in a reason
# Hidden characters, which a record shows as U+FFFD: pages copied from the web hold up to six, in
# runs of three (measured); a sentence written in them holds one for each letter.
_HIDDEN = "\ufffd"
_MOST_HIDDEN = 12
_LONGEST_HIDDEN_RUN = 5
_LOOKALIKES = str.maketrans("аеорсухіѕјԁһ", "aeopcyxisjdh")

_Table = list[tuple[tuple[str, ...], str]]

_MODEL = r"(?:ai|llm|large language model|language model|ai (?:assistant|agent|model)|chatbot|gpt)"
_TURNING = ("ignore", "disregard", "forget", "override", "bypass", "follow")

# Sentences that speak to a model instead of about an incident: the words one of which must be
# there, and the sentence, in folded text.
_SPOKEN_TO_A_MODEL = [
    (
        _TURNING,
        r"\b(?:ignore|disregard|forget|override|bypass|do not follow|stop following) (?:\w+ ){0,3}?"
        r"(?:previous|prior|above|earlier|preceding|existing|original|system|your) (?:\w+ ){0,2}?"
        r"(?:instructions?|prompts?|directives|guidelines|guardrails|programming)\b",
    ),
    (
        _TURNING,
        r"\b(?:ignore|disregard|forget|override) (?:all (?:of )?)?"
        r"(?:your|the previous|previous|the above) (?:\w+ )?(?:rules|training|safety|orders)\b",
    ),
    (
        _TURNING,
        r"\b(?:ignore|disregard|forget) (?:everything|all|anything) "
        r"(?:above|before this|you (?:know|were|have been) )",
    ),
    (
        ("you are ", "you're "),
        r"\byou(?:'re| are) (?:now|no longer) [^.\n]{0,60}?\b(?:assistant|ai|llm|language model"
        r"|chatbot|persona|dan|jailbroken|unrestricted|bound by|developer mode)\b",
    ),
    (
        ("from now on",),
        r"\bfrom now on,? you (?:must|shall|are to|answer|respond|reply|act|obey)\b",
    ),
    (
        ("system prompt", "system message", "instructions", "developer message"),
        r"\b(?:reveal|print|repeat|show|output|leak|display|dump) (?:\w+ ){0,3}?(?:system prompt"
        r"|system message|hidden instructions|initial instructions|developer message)\b",
    ),
    (
        ("system ",),
        r"\b(?:new|updated|real|actual|begin) system (?:prompt|message|instructions?)\b"
        r"|(?:^|\n) ?system prompt ?:",
    ),
    (
        (" an ", " a "),
        rf"\b(?:as|if you are|you are) an? {_MODEL}\b[^.\n]{{0,60}}?"
        r"\b(?:you|must|should|shall|have to|need to|will|please|are required)\b",
    ),
    (
        ("attention", "note", "message", "instruction", "notice", "dear", "important"),
        r"\b(?:attention|note|message|instructions?|notice|dear|important)[ ,:-]{0,3}(?:to |for )?"
        rf"(?:the |any |all )?{_MODEL}s?\b[^.\n]{{0,40}}?[:,]",
    ),
    (
        ("ing this",),
        rf"\b{_MODEL}s? (?:\w+ ){{0,2}}?"
        r"(?:reading|processing|summari[sz]ing|analy[sz]ing|parsing) this\b",
    ),
    (
        ("ask",),
        r"\bwhen(?:ever)? (?:you are |someone |anyone |a user |the user )?ask(?:s|ed)? "
        r"(?:about|for)\b[^.\n]{0,80}?\b(?:say|answer|recommend|respond|reply|tell them|suggest)\b",
    ),
    (
        ("do not ",),
        r"\bdo not (?:tell|inform|mention (?:this|it) to|reveal (?:this|it) to) (?:the |any )?"
        r"(?:user|operator|engineer|human|on-?call)s?\b",
    ),
    (
        ("always ",),
        r"\balways (?:rank|return|cite|retrieve|recommend) this "
        r"(?:incident|document|record|answer|text)\b",
    ),
    (("anything now", "mode"), r"\b(?:do anything now|dan mode|jailbreak mode)\b"),
    (
        ("](http",),
        r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{0,200}[{<\[]?"
        r"(?:secrets?|context|conversation|history|prompt)[}>\]]",
    ),
    (
        ("ignor",),
        r"\bignoriere? (?:alle |die |alle die )?(?:vorherigen|bisherigen|obigen) "
        r"(?:anweisungen|befehle)"
        r"|\bignorez (?:toutes )?(?:les )?(?:instructions|consignes) pr[ée]c[ée]dentes"
        r"|\bignor[ae] (?:todas )?(?:las |as )?instru(?:cciones|ções) (?:anteriores|previas)",
    ),
    (
        ("игнорируй", "忽略", "無視"),
        r"игнорируй(?:те)? (?:все )?предыдущие (?:инструкции|указания)"
        r"|忽略(?:之前|以上|先前|前面|上述)的?(?:所有)?(?:指令|指示|说明|提示)"
        r"|(?:以前|上記|これまで)の(?:指示|命令)を(?:すべて)?無視",
    ),
]

# The marks by which chat formats tell who speaks.
_CHAT_MARKS = [
    (
        ("<|", "<｜", "inst]", "sys>>", "_of_turn>"),
        r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|eot_id|eom_id|begin_of_text"
        r"|end_of_text|start_header_id|end_header_id|endofprompt|python_tag|channel|message)\|>"
        r"|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|<[|｜](?:begin|end)▁of▁sentence[|｜]>",
    ),
    (
        ("system", "assistant", "### instruction"),
        r"(?:^|\n) ?(?:#{1,3} ?)?(?:system|assistant) ?: ?(?:you (?:are|must|will)|ignore|from now)"
        r"|(?:^|\n) ?### instruction ?:"
        r"|(?:^|\n) ?human ?:[^\n]{0,2000}\n+ ?assistant ?:",
    ),
]

_SHELL = r"(?:sudo )?(?:ba|z|da|k)?sh\b"
_DESTRUCTIVE = [
    (
        ("rm -",),
        r"\brm (?:-\w+ )*-(?=\w*r)(?=\w*f)\w+ (?:--no-preserve-root )?[\"']?"
        r"(?:/(?:\*|etc|usr|bin|lib|boot|var|home|root|opt)?/?\*?|~/?\*?|\$home/?\*?)[\"']?"
        r"(?=[\s;&|.,)]|$)"
        r"|\brm -rf? [^\n]{0,40}--no-preserve-root",
    ),
    (("drop ", "delete from"), r"\bdrop (?:database|schema)\b|\bdelete from \w+ ?;"),
    (
        ("curl", "wget", "fetch", "base64", "downloadstring", "powershell", "/dev/tcp/", "nc -"),
        rf"\b(?:curl|wget|fetch)\b[^\n|]{{0,200}}\| ?{_SHELL}"
        rf"|\bbase64 (?:-d|--decode)\b[^\n|]{{0,80}}\| ?{_SHELL}"
        r"|\b(?:ba|z)?sh <\( ?(?:curl|wget)\b|\biex ?\(?[^\n]{0,60}downloadstring"
        r"|\bpowershell\b[^\n]{0,40} -enc|/dev/tcp/|\bnc (?:-\w+ )*-e\b",
    ),
    (
        ("/dev/", ":|:", "chmod"),
        r"\bmkfs(?:\.\w+)? (?:-\w+ )*/dev/|\bdd if=\S+ of=/dev/(?:sd|nvme|vd|xvd|hd|mapper)"
        r"|> ?/dev/(?:sd|nvme|vd|xvd|hd)\w|:\(\) ?\{ ?:\|:& ?\};:"
        r"|\bchmod (?:-r )?0?777 /(?:[\s;*]|$)",
    ),
    (
        ("kubectl", "destroy", "aws s3", "delete"),
        r"\bkubectl\b[^\n]{0,60}\bdelete (?:ns|namespaces?)\b"
        r"|\bkubectl\b[^\n]{0,60}\bdelete\b[^\n]{0,60} --all\b|\bterraform destroy\b"
        r"|\baws s3 rb [^\n]{0,100}--force|\b(?:gcloud projects|az group|vssadmin) delete\b",
    ),
    (
        ("audit", "setenforce"),
        r"\bauditctl (?:-d\b|-e ?0)|\bauditd (?:stop|disable)\b|\bsetenforce 0\b"
        r"|\b(?:systemctl|service) (?:stop|disable|mask) auditd",
    ),
    (
        ("disable", "deactivate", " off "),
        r"\b(?:disabled?|turn(?:ed)? off|switch(?:ed)? off|deactivated?) "
        r"(?:the |all |any )?(?:\w+ )?(?:authentication|authorization|mfa"
        r"|two-factor authentication|tls verification|audit(?:ing|s| logs?| logging| trail)?"
        r"|certificate (?:verification|validation)|signature verification)(?= ?(?:[.,;:!)]|$|\n)"
        r"| (?:on|for|in|at|across|and|to|so|until|everywhere|entirely|completely)\b)",
    ),
]
# What was done by mistake, or must not be done, is told as a warning and not as the fix.
_WARNED = re.compile(
    r"\b(?:never|not|don't|avoid|instead of|accidental(?:ly)?|mistakenly|by mistake"
    r"|had (?:run|been)|caused by|after (?:someone|somebody|an engineer))\b[^.\n]{0,60}\Z"
)


def judge(incident: Incident) -> list[str]:
    """Why this incident is to be kept out of search until a person releases it; [] when trusted.

    A sender may ask for quarantine and can never ask it away. Reasons quote at most 60 characters
    of what was seen, redacted.
    """
    asked = ["the sender asked for it to be kept out"] if incident.trust == "quarantined" else []
    return [
        *asked,
        *(reason for field, text in _texts(incident) for reason in _steering(field, text)),
        *(reason for field, text in _fixes(incident) for reason in _harm(field, text)),
    ]


def _steering(field: str, text: str) -> Iterator[str]:
    hidden = text.count(_HIDDEN)
    if hidden >= _MOST_HIDDEN or _HIDDEN * _LONGEST_HIDDEN_RUN in text:
        yield f"{field} held {hidden} hidden characters"
    if any(_seen(_SPOKEN_TO_A_MODEL, text)):
        yield f"{field} speaks to a model: {_quoted(_SPOKEN_TO_A_MODEL, text)}"
    if any(_seen(_CHAT_MARKS, text)):
        yield f"{field} holds the marks of a chat with a model: {_quoted(_CHAT_MARKS, text)}"


def _harm(field: str, text: str) -> Iterator[str]:
    for seen in _seen(_DESTRUCTIVE, text):
        if not _WARNED.search(seen.string, max(seen.start() - 80, 0), seen.start()):
            yield f"{field} gives something destructive as the fix: {_quoted(_DESTRUCTIVE, text)}"
            return


def _seen(table: _Table, text: str) -> Iterator[re.Match[str]]:
    """Every sentence of the table in the folded text; lookalike letters are read as they look."""
    folded = _folded(text)
    readings = [folded] if folded.isascii() else [folded, folded.translate(_LOOKALIKES)]
    for reading in readings:
        for signs, pattern in table:
            if any(sign in reading for sign in signs):
                yield from _compiled(pattern).finditer(reading)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _folded(text: str) -> str:
    """One spelling of a text: nothing hidden, lower case, no fancy letters, single blanks."""
    text = text.replace(_HIDDEN, "")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return re.sub(r"[ \t\u00a0]+", " ", text.lower())


def _quoted(table: _Table, text: str) -> str:
    """The first that is seen in the redacted text, at most 60 characters of it."""
    seen = next(_seen(table, redact_text(text)[0]), None)
    said = " ".join(seen[0].split()) if seen else "(redacted)"
    return f"“{said[:_SHOWN]}…”" if len(said) > _SHOWN else f"“{said}”"


def _texts(incident: Incident) -> Iterator[tuple[str, str]]:
    fields = ("title", "summary", "symptoms", "root_cause", "cause_family", "resolution", "lessons")
    for field in fields:
        if text := getattr(incident, field):
            yield field, text
    for n, update in enumerate(incident.updates):
        yield f"updates[{n}]", update.text
    for n, action in enumerate(incident.actions):
        yield f"actions[{n}]", action.text
    for n, evidence in enumerate(incident.evidence):
        yield f"evidence[{n}]", evidence.text
    for n, service in enumerate(incident.services):
        yield f"services[{n}]", service
    for name, label in incident.labels.items():
        yield f"labels.{name}", label or name


def _fixes(incident: Incident) -> Iterator[tuple[str, str]]:
    if incident.resolution:
        yield "resolution", incident.resolution
    for n, action in enumerate(incident.actions):
        yield f"actions[{n}]", action.text
