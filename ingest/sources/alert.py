"""A firing alert, as its tool sends it, turned into the question that a person would ask.

No tool is asked by name. What they have in common is enough: a few wrappers around the alert
(Alertmanager's and Grafana's groups, PagerDuty's events, the JSON in an SNS message), the same
words for the same things in their field names, and the same kinds of noise. A tool that nobody
knew when this was written is read by the same rules.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import Field

from ingest.errors import Unreadable
from ingest.incident import Evidence, Moment, Record, visible
from ingest.moments import from_epoch, read_moment

LONGEST_QUESTION = 4_000  # characters; an embedder's window is some 1,200, lexical search reads all
LONGEST_PART = 1_500  # of one field in the question; the whole of it becomes evidence
LONGEST_EVIDENCE = 100_000
MOST_LEAVES = 5_000
MOST_SERVICES = 20
DEEPEST = 12

# Field names are compared in lower case without their punctuation: `AlarmName`, `alarm_name`.
_TITLES = (
    "title", "alertname", "alarmname", "messagetitle", "shortdescription", "subject", "alerttitle",
    "headline", "eventtitle", "eventdefinitiontitle", "checkname", "rulename", "conditionname",
)  # fmt: skip
_TEXTS = (
    "summary", "message", "description", "alarmdescription", "newstatereason", "messagebody",
    "body", "text", "details", "detail", "reason", "error", "errormessage", "exception", "culprit",
    "formatted", "eventmsg", "output", "fulllog", "log", "stacktrace", "comment", "content",
)  # fmt: skip
_CONTEXT = (
    "service", "servicename", "job", "app", "application", "component", "project", "projectname",
    "container", "deployment", "workload", "namespace", "cluster", "region", "environment", "env",
    "host", "hostname", "instance", "entity", "metric", "metricname", "originatingmetric", "check",
    "errortype", "errorcode", "statuscode", "responsecode", "httpstatuscode", "exitcode", "signal",
    "resourcetypedisplayname", "resourcedisplayname", "category", "subcategory", "cmdbci",
    "businessservice", "device", "mountpoint", "queue", "topic", "database",
)  # fmt: skip
# What is said only where nothing else is: these words are in every alert of their tool.
_LAST_RESORT = (
    "action", "event", "eventtype", "alerttype", "type", "state", "status", "task", "model",
    "conclusion",
)  # fmt: skip
_SERVICES = (
    "service", "servicename", "app", "application", "component", "job", "workload", "deployment",
    "projectname", "project", "businessservice", "cmdbci", "resourcedisplayname",
)  # fmt: skip
_SEVERITIES = ("severity", "priority", "level", "urgency", "impact")
_TIMES = (
    "startsat", "startedat", "occurredat", "statechangetime", "openedat", "triggeredat",
    "starttime", "firstseen", "start", "createdat", "timestamp", "eventtime", "datehappened",
    "generatedat", "date",
)  # fmt: skip
_MARKED = {"labels", "tags", "dimensions", "customdetails", "commonlabels", "grouplabels"}
_PEOPLE_AND_PLUMBING = {
    "user", "users", "sender", "creator", "agent", "assignee", "assignees", "assignedto", "owner",
    "teams", "escalationpolicy", "headers", "geo", "contexts", "integration", "organization",
    "receiver", "meta", "page", "links", "link", "attachments", "author", "openedby", "closedby",
    "resolvedby", "username", "recipients", "repository", "milestone", "performedviagithubapp",
    "reactions", "syscreatedby", "sysupdatedby", "callerid", "company", "permissions", "source",
    "color", "org", "actor", "installation",
}  # fmt: skip
_NOISY_NAME = re.compile(
    r"(^|[a-z])(Ids?|ID|U[iI]d|UUID|Url|URL|Uri|Key|Hash|Token|Fingerprint|Sha|Email|Arn|ARN)$"
    r"|(^|[_.-])(ids?|u?uid|urls?|uri|href|hash|token|fingerprint|sha|ref|email|arn|slug)$",
)
_NOISY_VALUE = re.compile(
    r"https?://\S*|[\w.+-]+@[\w-]+\.[\w.]+|[0-9a-fA-F-]{12,}|[+-]?[\d.,:]+|true|false|null|none"
    r"|arn:\S+|\d{4}-\d\d-\d\d[T ]\S.*|<[^>]*>|unknown|normal|n/a",
    re.I,
)  # fmt: skip
_URL = re.compile(r"\[([^\]\n]{0,200})\]\(\s*\w+://[^)\s]{0,2000}\)|<?\b\w{3,10}://[^\s>)\"']+>?")
_TEMPLATE = re.compile(r"\s*\{\{[^{}]{0,200}\}\}|%%%")
_STATE_MARK = re.compile(
    r"^\s*\[(?:firing|resolved|alerting|ok|no ?data|triggered|recovered)(?::\d+)?\]\s*",
    re.I,
)


class AlertQuestion(Record):
    """What an alert asks of the past.

    `services` are the names that the alert uses, which need not be ours: a hint for the ranking,
    not a filter. `evidence` holds in full what was too long for the text.
    """

    text: str
    services: list[str] = Field(default_factory=list)
    severity: str | None = None
    at: Moment | None = None
    evidence: list[Evidence] = Field(default_factory=list)


def read_alert(payload: Any) -> AlertQuestion:
    """The question in an alert's JSON; `Unreadable` when that is no object or has no words."""
    if not isinstance(payload, Mapping):
        raise Unreadable(f"an alert is a JSON object as its tool sends it, not {_kind(payload)}")
    if not payload:
        raise Unreadable("the alert is an empty object; send it as its tool does")
    leaves = list(_leaves(_unwrapped(payload)))
    parts = _parts(leaves) or _parts([Leaf(leaf.path, leaf.value, True) for leaf in leaves])
    text = visible("\n".join(parts)[:LONGEST_QUESTION]).strip()
    if not text:
        raise Unreadable("no words in this alert to search by; it needs a title or a description")
    return AlertQuestion(
        text=text,
        services=_services(leaves),
        severity=next((str(leaf.value)[:200] for leaf in _named(leaves, _SEVERITIES)), None),
        at=next((at for at in map(_moment, _named(leaves, _TIMES)) if at), None),
        evidence=[
            Evidence(text=leaf.value[:LONGEST_EVIDENCE], kind="log", source=leaf.name[:200])
            for leaf in leaves
            if isinstance(leaf.value, str) and len(leaf.value) > LONGEST_PART and not leaf.is_noise
        ][:20],
    )


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of the alert, the names that lead to it, and whether it stands among labels."""

    path: tuple[str, ...]
    value: Any
    is_label: bool = False

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def plain_name(self) -> str:
        return _plain_name(self.name)

    @property
    def is_noise(self) -> bool:
        return bool(_NOISY_NAME.search(self.name)) or (
            isinstance(self.value, str) and bool(_NOISY_VALUE.fullmatch(self.value[:2000].strip()))
        )


def _unwrapped(payload: Mapping[str, Any]) -> Any:
    """The alert without what its tool wraps around it."""
    match payload:
        case {"alerts": [{}, *_] as alerts}:
            firing = [a for a in alerts if isinstance(a, dict) and a.get("status") != "resolved"]
            common = {name: payload.get(name) for name in ("commonLabels", "commonAnnotations")}
            return {"alerts": firing or alerts, **common}
        case {"Message": str(message)} if message.lstrip().startswith("{"):
            try:
                return json.loads(message)
            except (ValueError, RecursionError):
                return payload
        case {"event": {"data": {"title": _} as data, **event}}:
            return {**data, "occurred_at": event.get("occurred_at")}
    return payload


def _leaves(root: Any) -> Iterator[Leaf]:
    """The scalars, shallow ones first within their object; people and plumbing are left out."""
    waiting: list[Leaf] = [Leaf(("",), root)]
    count = 0
    while waiting and count < MOST_LEAVES:
        leaf = waiting.pop()
        value = _referred(leaf.value)
        if isinstance(value, Mapping):
            inner = [(str(name), item) for name, item in value.items()]
        elif isinstance(value, (list, tuple)):
            inner = [_pair(item) or (leaf.name, item) for item in value]
        else:
            count += 1
            if value is not None and not isinstance(value, bool):
                yield replace(leaf, value=value)
            continue
        if len(leaf.path) < DEEPEST:
            among = leaf.is_label or leaf.plain_name in _MARKED
            kept = [(n, i) for n, i in inner if _plain_name(n) not in _PEOPLE_AND_PLUMBING]
            waiting.extend(Leaf((*leaf.path, n), i, among) for n, i in reversed(kept))


def _referred(value: Any) -> Any:
    """The name that PagerDuty gives to what it refers to."""
    match value:
        case {"type": str(kind), "summary": str(summary)} if kind.endswith("_reference"):
            return summary
    return value


def _pair(item: Any) -> tuple[str, Any] | None:
    """A label written as `["k", "v"]`, `{"key": "k", "value": ...}` or `"k:v"`."""
    match item:
        case [str(name), str(value)]:
            return name, value
        case {"key": str(name), "value": {"stringValue": value}}:
            return name, value
        case {"key": str(name), "value": value} | {"name": str(name), "value": value}:
            return name, value
        case str(text) if re.fullmatch(r"[\w.-]{1,60}:[^\s/][^\n]{0,200}", text):
            name, _, value = text.partition(":")
            return name, value
    return None


def _parts(leaves: list[Leaf]) -> list[str]:
    """Titles, then texts, then labels and context as `name: value`; nothing said twice."""
    titles = [_worded(leaf) for leaf in _named(leaves, _TITLES)]
    names = [_worded(leaf) for leaf in leaves if leaf.plain_name == "name" and not leaf.is_label]
    texts = [_worded(leaf) for leaf in _named(leaves, _TEXTS)]
    told = {*_TITLES, *_TEXTS, *_SEVERITIES, *_TIMES, "name"}
    context = [leaf for leaf in leaves if leaf.plain_name not in told and _is_telling(leaf)]
    if not any((*titles, *names, *texts)):
        context += _named(leaves, _LAST_RESORT)
    labels = [f"{leaf.name}: {words}" for leaf in context if (words := _worded(leaf))]
    said = _once([*titles, *(names if not titles else []), *texts])
    spoken = "\n".join(said).lower()
    return _once([*said, *(tag for tag in _split_tags(labels) if not _is_spoken(tag, spoken))])


def _once(parts: list[str]) -> list[str]:
    """The parts that stand in no part before them, as many as a question has room for."""
    said: list[str] = []
    for part in parts:
        if part and not any(part.lower() in other.lower() for other in said):
            said.append(part)
        if sum(map(len, said)) > LONGEST_QUESTION:
            break
    return said


def _is_spoken(label: str, spoken: str) -> bool:
    """Whether a label's value is in the texts already; a short one may be there by chance."""
    value = label.partition(": ")[2].lower()
    return len(value) > 4 and value in spoken


def _split_tags(context: list[str]) -> list[str]:
    """Datadog's `tags: environment:production, team:backend` as a line for each."""
    tags = [line[6:].split(",") if line.startswith("tags: ") else [line] for line in context]
    return [re.sub(r"^([\w.-]+):(?=\S)", r"\1: ", tag.strip()) for line in tags for tag in line]


def _is_telling(leaf: Leaf) -> bool:
    if leaf.plain_name in _CONTEXT or leaf.plain_name in _MARKED or leaf.is_label:
        return True
    return (
        leaf.plain_name not in _LAST_RESORT
        and isinstance(leaf.value, str)
        and len(leaf.value.split()) > 2
    )


def _named(leaves: list[Leaf], names: tuple[str, ...]) -> list[Leaf]:
    """The leaves with these names, in the order of the names; empty ones left out."""
    found = [leaf for leaf in leaves if leaf.plain_name in names and str(leaf.value).strip()]
    return sorted(found, key=lambda leaf: (names.index(leaf.plain_name), len(leaf.path)))


def _worded(leaf: Leaf) -> str:
    """The words of a value, without links, templates and state marks; empty when it is noise."""
    if leaf.is_noise or not isinstance(leaf.value, (str, int)):
        return ""
    text = _URL.sub(lambda match: match[1] or "", str(leaf.value)[: 2 * LONGEST_PART])
    text = _STATE_MARK.sub("", _TEMPLATE.sub("", text))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)[:LONGEST_PART]


def _services(leaves: list[Leaf]) -> list[str]:
    """The names that the alert gives to what is broken."""
    named = [str(leaf.value) for leaf in _named(leaves, _SERVICES) if not leaf.is_noise]
    tags = [
        leaf.value for leaf in leaves if leaf.plain_name == "tags" and isinstance(leaf.value, str)
    ]
    tagged = re.findall(r"(?:^|[\s,])service:([\w.-]+)", " ".join(tags))
    names = [visible(str(name)).strip()[:200] for name in (*named, *tagged)]
    return list(dict.fromkeys(name for name in names if name))[:MOST_SERVICES]


def _moment(leaf: Leaf) -> datetime | None:
    if isinstance(leaf.value, (int, float)) and 10**8 < leaf.value < 10**20:
        return from_epoch(int(leaf.value))
    return read_moment(leaf.value[:100]) if isinstance(leaf.value, str) else None


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _kind(value: Any) -> str:
    names = {str: "a text", list: "a list", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
