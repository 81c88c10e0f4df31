"""What a text says was seen: error codes, hosts, places, and measurements with their unit."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

# The longer name before the shorter one that it holds.
SUBJECTS = (
    "replication lag", "consumer lag", "lag", "queue depth", "queue length", "queue", "backlog",
    "connection pool", "connections", "packet loss", "error rate", "failure rate", "success rate",
    "hit rate", "hit ratio", "latency", "response time", "p50", "p90", "p95", "p99", "cpu",
    "load average", "memory", "heap", "swap", "disk", "inodes", "iops", "file descriptors",
    "threads", "gc pause", "throughput", "bandwidth", "saturation", "utilization", "utilisation",
    "temperature", "clock skew",
)  # fmt: skip
_UNITS = {
    "%": ("%", 1), "percent": ("%", 1), "ms": ("s", 0.001), "s": ("s", 1), "sec": ("s", 1),
    "secs": ("s", 1), "second": ("s", 1), "seconds": ("s", 1), "min": ("s", 60), "mins": ("s", 60),
    "minute": ("s", 60), "minutes": ("s", 60), "h": ("s", 3600), "hour": ("s", 3600),
    "hours": ("s", 3600), "kb": ("b", 1e3), "kib": ("b", 2**10), "mb": ("b", 1e6),
    "mib": ("b", 2**20), "gb": ("b", 1e9), "gib": ("b", 2**30), "tb": ("b", 1e12),
    "tib": ("b", 2**40), "bytes": ("b", 1), "rps": ("/s", 1), "qps": ("/s", 1), "req/s": ("/s", 1),
    "/s": ("/s", 1), "/min": ("/min", 1), "iops": ("iops", 1), "messages": ("messages", 1),
    "requests": ("requests", 1), "connections": ("connections", 1), "threads": ("threads", 1),
    "errors": ("errors", 1), "degrees": ("degrees", 1), "x": ("x", 1),
}  # fmt: skip
_TIMED = {
    "lag", "replication lag", "consumer lag", "latency", "response time", "gc pause", "clock skew",
    "p50", "p90", "p95", "p99", "backlog", "queue",
}  # fmt: skip
_NAMED_ERRORS = (
    "OOMKilled", "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "NodeNotReady",
    "FailedScheduling", "FailedMount", "FailedCreate", "DiskPressure", "MemoryPressure",
    "PIDPressure", "InvalidDiskCapacity", "NXDOMAIN", "SERVFAIL", "SIGKILL", "SIGTERM", "SIGSEGV",
    "SIGABRT",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measure:
    """One number with its unit, of a named subject; `text` is the span that says so."""

    subject: str
    value: float
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Signs:
    """What one text says was seen; the keys are in small letters, the values as written."""

    codes: dict[str, str]
    places: dict[str, str]
    hosts: dict[str, str]
    measures: list[Measure]


def signs(text: str) -> Signs:
    """Everything of this kind in the text."""
    places = _by_key(m[0] for m in _PLACE.finditer(text)) if "-" in text else {}
    hosts = _by_key(
        host for tail in _HOST_TAILS for host in _grown(text, tail, _HOST_HEAD) if _is_host(host)
    )
    return Signs(
        codes=codes(text),
        places=places,
        hosts={k: v for k, v in hosts.items() if not any(k in p or p in k for p in places)},
        measures=measures(text),
    )


def codes(text: str) -> dict[str, str]:
    """The error codes, HTTP statuses and exceptions that the text names."""
    found = [m[0][:3] for m in _STATUS.finditer(text) if _is_status(text, m)]
    found += [name for name in _NAMED_ERRORS if name in text]
    for whole in _WHOLE:
        found += [m[0] for m in whole.finditer(text) if not _is_inside(text, m)]
    for tail, head in _TAILS:
        found += _grown(text, tail, head)
    return _by_key(found)


def measures(text: str) -> list[Measure]:
    """The numbers with a unit whose subject stands near them in the same clause."""
    found = []
    for number in _NUMBER.finditer(text):
        span = None if _is_inside(text, number) else _with_subject(text, number)
        if span is None:
            continue
        subject, start, end = span
        if _UNITS[number[2].lower()][0] == "s" and subject not in _TIMED:
            continue  # how long it lasted, not what was measured
        unit, scale = _UNITS[number[2].lower()]
        value = float(number[1].replace(",", "")) * scale
        found.append(Measure(subject, value, unit, text[start:end]))
    return found


def subjects(text: str) -> set[str]:
    """The things that can be measured which the text mentions."""
    low = text.lower()
    return {subject for subject, _, _ in _mentioned(low)}


def _mentioned(low: str) -> Iterator[tuple[str, int, int]]:
    """(subject, start, end) of what a text in small letters mentions, one place each."""
    for subject in SUBJECTS:
        stem = subject.removesuffix("s")
        # A look for the plain text first: one pattern of all the names costs ten times as much.
        if stem in low and (found := _mention(stem).search(low)):
            yield subject, *found.span()


@cache
def _mention(stem: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){stem}s?(?![\w-])")


def _with_subject(text: str, number: re.Match[str]) -> tuple[str, int, int] | None:
    """(subject, start, end) of the span from the nearest subject to the number, or back."""
    before = _CLAUSE_END.split(text[max(0, number.start() - 40) : number.start()])[-1]
    nearest = max(_mentioned(before.lower()), key=lambda m: (m[2], -m[1]), default=None)
    if nearest:
        return nearest[0], number.start() - len(before) + nearest[1], number.end()
    after = _CLAUSE_END.split(text[number.end() : number.end() + 25], maxsplit=1)[0]
    following = min(_mentioned(after.lower()), key=lambda m: (m[1], -m[2]), default=None)
    return (following[0], number.start(), number.end() + following[2]) if following else None


def _grown(text: str, tail: re.Pattern[str], head: re.Pattern[str]) -> list[str]:
    """The spans that end in `tail`, which is rare and quickly found, and begin with `head`."""
    found = []
    for end in tail.finditer(text):
        beginning = head.search(text[max(0, end.start() - 120) : end.start()])
        if beginning:
            found.append(beginning[0] + end[0])
    return found


def _is_status(text: str, number: re.Match[str]) -> bool:
    """Whether a bare 503 stands in such company that it is a status."""
    if _is_inside(text, number):
        return False
    before = text[max(0, number.start() - 24) : number.start()]
    return bool(
        number[1] or _STATUS_BEFORE.search(before) or _STATUS_AFTER.match(text, number.end())
    )


def _is_inside(text: str, found: re.Match[str]) -> bool:
    """Whether it is only the end of a longer word, version or path."""
    before = text[found.start() - 1 : found.start()] if found.start() else ""
    return before.isalnum() or (bool(before) and before in "._:/-,$")


def _is_host(name: str) -> bool:
    return not _NO_HOST.match(name)


def _by_key(values: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        found.setdefault(value.lower(), value)
    return found


# Each begins with what is rare, not with a word boundary: the search then skips most of the text.
_STATUS = re.compile(r"[45](?:\d\d|xx)(s?)(?!\w|[.,]\d|%| ?ms)")
_STATUS_BEFORE = re.compile(
    r"(?:http|status|codes?|return(?:s|ed|ing)|responses?|errors?|with|got|serv(?:ed|ing))"
    r"[ :=/\"]{1,3}(?:code[ :=]{1,2})?$",
    re.IGNORECASE,
)
_STATUS_AFTER = re.compile(
    r" (?:errors?|responses?|status|bad gateway|service unavailable|internal server|too many"
    r"|gateway time|unauthori|forbidden|not found)",
    re.IGNORECASE,
)
_WHOLE = (
    re.compile(
        r"E(?:CONN[A-Z]{3,9}|NOSPC|NOMEM|NOENT|MFILE|NFILE|TIMEDOUT|HOSTUNREACH|NETUNREACH"
        r"|ADDRINUSE|PIPE|ACCES|PERM|AGAIN|IO|ROFS|DQUOT|EXIST|NOTFOUND|AI_AGAIN|PROTO)(?!\w)"
    ),
    re.compile(r"(?:ORA|TNS|SQLSTATE|AADSTS|ERR|IIS)[-_ :]?\d{3,6}(?!\w)"),
    re.compile(r"0x[0-9a-fA-F]{6,8}(?!\w)"),
    re.compile(r"exit(?:ed with| code| status) \d{1,3}(?!\w)"),
)
_TAILS = (
    (
        re.compile(r"(?:Exception|Error|Fault)(?!\w)"),
        re.compile(r"(?:[A-Za-z_$][\w$]{0,60}\.){0,8}(?:[A-Z][a-z0-9]{1,30}){1,6}$"),
    ),
    (
        re.compile(
            r"_(?:ERROR|ERR|FAILED|FAILURE|EXCEEDED|DENIED|REFUSED|TIMEOUT|UNAVAILABLE|EXHAUSTED"
            r"|INVALID|FOUND|RESET|ABORTED|EXPIRED|UNREACHABLE|CLOSED|MISMATCH)(?![\w])"
        ),
        re.compile(r"(?<![\w])[A-Z]{2,20}(?:_[A-Z]{2,20}){0,4}$"),
    ),
)
_PLACE = re.compile(
    r"(?:us|eu|ap|sa|ca|me|af|cn|europe|asia|australia|northamerica|southamerica)"
    r"-[a-z]{2,15}(?:-[a-z]{2,15})?-?\d(?:-?[a-f])?(?![\w-])"
)
_HOST_TAILS = (
    re.compile(r"-\d{1,4}(?![\w-]|\.\w)"),
    re.compile(r"\.(?:com|net|org|io|dev|internal|local|lan|corp|cloud)(?![\w-]|\.\w)"),
)
# Not the host of a link: those are documentation more often than a place of trouble.
_HOST_HEAD = re.compile(
    r"(?<![\w./@-])[a-z][a-z0-9]{0,30}(?:-[a-z0-9]{1,30}){0,5}(?:\.[a-z0-9-]{1,40}){0,5}$"
)
_NO_HOST = re.compile(
    r"(?:utf|sha|md|ipv|tls|ssl|http|covid|iso|rfc|cve|sev|p|inc|step|day|top|v\d*|pre|post)-"
)
_NUMBER = re.compile(
    r"(\d[\d,]{0,12}(?:\.\d{1,6})?) ?("
    + "|".join(sorted(map(re.escape, _UNITS), key=lambda u: (-len(u), u)))
    + r")(?![\w/])",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[\n;|()]|[.!?,] ")
