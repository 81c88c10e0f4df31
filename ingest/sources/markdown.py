"""Postmortems in Markdown: one incident per file, with YAML front matter or without.

What heads a section decides where it goes (`_SECTIONS`); a section that we do not know goes, with
its heading, to the summary, so that nothing is lost. Resolution is what was done to end the
incident; action items and follow-ups are what was learned, so they go to the lessons.

Without an `id` in the front matter, an incident is called by its path from the given folder on,
that folder's own name included: `postmortems/2021/dns.md`. It stays the same from whichever
directory the command is run and when the folder is moved; it changes when another folder of the
tree is given, or the folder is renamed. (The file name alone would make one incident of two.)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ingest.errors import Unreadable
from ingest.file import File
from ingest.frontmatter import Noted, front_matter, noted_in
from ingest.incident import Incident
from ingest.moments import read_moment
from ingest.refusal import Refusal, quoted
from ingest.timeline import Entry, entries

KIND = "markdown"
SENTENCE = "Markdown postmortems, one per file, with or without YAML front matter"
SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd"})

# First match wins; headings are compared in lower case, without numbers, marks and what follows a
# dash or an opening parenthesis.
_SECTIONS = (
    ("updates", r"(incident )?time ?line|chronology|sequence of events|(incident )?log|updates"),
    ("root_cause", r"(the )?(root|underlying|technical|probable)? ?causes?( analysis)?|rca"
                   r"|triggers?|contributing (factors?|causes?)|(five|5) whys"
                   r"|why (it|this|did (it|this)) happen(ed)?"),
    ("resolution", r"(the )?(resolution|mitigation|fix|solution|recovery|remediation|workaround)s?"
                   r"( and recovery| steps)?|resolution and (recovery|mitigation)"
                   r"|how (it|this|we) (was )?(fixed|resolved|mitigated)( it| this)?|response"),
    ("actions", r"(actions?|steps|measures) (we )?(taken|took)|what (was|we) (done|did)"),
    ("lessons", r"lessons?( learn(ed|t))?|learnings?|takeaways?|what went (well|wrong|badly|poorly)"
                r"|what (could|can) (have gone|be|go|we do) .*|where we got lucky|improvements?"
                r"|(corrective |preventive |preventative |follow.?up )?(action|task)s?( items?)?"
                r"|follow.?ups?|next steps|prevention|(corrective|preventive|preventative) measures"
                r"|recommendations?|to.?dos?"),
    ("symptoms", r"(the )?((customer|user|business|service) )?(impact|symptoms?|effects?)|detection"
                 r"|how (it|this|we) (was )?(detected|noticed)( it| this)?|alerts?"),
    ("summary", r"(executive |incident )?(summary|overview|abstract|description|synopsis)|tl;?dr"
                r"|background|what happened|introduction|problem( statement)?|issue( summary)?"),
    ("services", r"(affected |impacted )?(services?|systems?|components?)( affected| impacted)?"),
    ("notes", r"stats|statistics|meta ?data|incident details|facts|key facts|at a glance"),
    ("people", r"att?endees|participants|authors?|responders|people( involved)?|owners?"),
)  # fmt: skip
_KNOWN = [(name, re.compile(pattern)) for name, pattern in _SECTIONS]
_TELLING = {"updates", "root_cause", "resolution", "lessons", "symptoms", "actions"}

# Front matter, `**Key:** value` lines above the first section, and a Stats section.
_KEYS = {
    "source": ("source",),
    "source_id": ("id", "source_id", "incident_id", "incident", "number", "ticket", "key"),
    "title": ("title", "name", "headline"),
    "url": ("url", "link", "permalink"),
    "services": (
        "services", "service", "affected", "affected_services", "services_affected", "systems",
        "system", "affected_systems", "components", "component", "product", "products",
    ),
    "severity": ("severity", "sev", "severity_level", "priority", "impact_level", "level"),
    "status": ("status", "state"),
    "started_at": (
        "started_at", "started", "start", "start_time", "starttime", "date", "incident_date",
        "occurred_at", "occurred", "began", "datetime", "incident_start", "time",
    ),
    "detected_at": ("detected_at", "detected", "detection_time", "time_detected"),
    "resolved_at": (
        "resolved_at", "resolvedwhen", "resolved", "end", "ended", "end_time", "endtime",
        "closed", "closed_at", "incident_end", "time_resolved",
    ),
    "known_at": ("known_at", "published", "published_at", "publish_date", "pubdate"),
    "summary": ("summary", "description", "excerpt", "tldr"),
    "symptoms": ("symptoms",),
    "root_cause": ("root_cause", "cause", "rootcause", "trigger"),
    "cause_family": ("cause_family", "cause_category", "root_cause_category"),
    "resolution": ("resolution", "fix", "mitigation"),
    "lessons": ("lessons", "lessons_learned"),
}  # fmt: skip
_FIELD_OF_KEY = {key: name for name, keys in _KEYS.items() for key in keys}
_TEXTS = {"summary", "symptoms", "root_cause", "resolution", "lessons"}
_TIMES = {"started_at", "detected_at", "resolved_at", "known_at"}
_PEOPLE = {
    "author", "authors", "attendees", "participants", "owner", "owners", "responders", "reviewers",
    "incident_commander", "commander", "lead", "reporter",
}  # fmt: skip
_NO_LABEL = _PEOPLE | {
    "layout", "weight", "section", "type", "template", "slug", "aliases", "draft", "toc", "image",
    "sidebar_position",
}  # fmt: skip
_INCIDENT_KEYS = {"severity", "sev", "affected", "resolved", "resolved_at", "resolvedwhen"}

LARGEST_PAGE_BYTES = 4 * 2**20

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*")
_UNDERLINE = re.compile(r"(=|-)\1{2,}\s*")
_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_BOLD_LINE = re.compile(r"(?:\*\*|__)([^*]{2,60}?)(?:\*\*|__):?\s*")
_LONGEST_HEADING = 300
_NOTHING = re.compile(r"[\s_*.()\[\]-]*(tbd|tba|todo|n/?a|none|unknown|\?+)?[\s_*.()\[\]-]*", re.I)
_FILE_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?!\d)")
_BULLET = re.compile(r"\s*(?:[-*+•]|\d{1,2}[.)])\s+(?:\[[ xX]\]\s*)?")


def sniff(path: Path, head: str) -> bool:
    """Whether it looks like a postmortem, and not like any other Markdown page."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        page = front_matter(head)
    except Unreadable:
        return "title:" in head  # front matter that should be mended, not passed over
    sections = {part.field for part in _parts(page.body)} & _TELLING
    dated = page.notes.keys() & set(_KEYS["started_at"])
    if "title" in page.notes and (page.notes.keys() & _INCIDENT_KEYS or (dated and sections)):
        return True
    return len(sections) >= 2


def read(file: File) -> Iterator[Incident | Refusal]:
    """The one incident that the page tells."""
    try:
        page = front_matter(file.text(at_most=LARGEST_PAGE_BYTES).removeprefix("\ufeff"))
    except Unreadable as error:
        yield file.refuse(str(error), line=getattr(error, "line", None))
        return
    if not page.notes and not page.body.strip():
        yield file.refuse("empty: there is no incident in it")
        return
    story = _Story(file)
    for key, noted in page.notes.items():
        story.note(key, noted)
    for part in _parts(_without_comments(page.body)):
        story.tell(part)
    yield story.told()


@dataclass(slots=True)
class _Part:
    """A section: its heading and that one's level, which of our fields it tells, and its lines."""

    heading: str
    level: int
    field: str | None
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()


@dataclass
class _Story:
    """What has been gathered from one page."""

    file: File
    given: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, list[_Part]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    updates: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Refusal] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)  # what our fields are called there
    line_of: dict[str, int | None] = field(default_factory=dict)  # and the lines of those keys

    def told(self) -> Incident | Refusal:
        """The incident; a refusal names the key and the line that are at fault."""
        if self.faults:
            return self.faults[0]
        told = self.file.admit(self.fields(), called=self.keys)
        if isinstance(told, Incident):
            return told
        return replace(told, line=self.line_of.get(told.field or ""))

    def note(self, key: str, noted: Noted) -> None:
        """Take one `key: value`: a field of ours, else a label."""
        name = _FIELD_OF_KEY.get(key)
        if _is_nothing(noted.text):
            return
        if name and name not in self.given:
            self.keys[name], self.line_of[key] = key, noted.line
        if key == "resolved" and noted.text.lower() in ("true", "false", "yes", "no"):
            is_over = noted.text.lower() in ("true", "yes")
            self.given.setdefault("status", "resolved" if is_over else "open")
        elif name in _TEXTS:
            self._place(_Part("", 0, name, noted.text.splitlines()))
        elif name is None or name in self.given:
            self._label(key, noted)
        elif name in _TIMES:
            self._time(name, key, noted)
        else:
            self.given[name] = noted.names if name == "services" else noted.text

    def _time(self, name: str, key: str, noted: Noted) -> None:
        at = read_moment(noted.text)
        if at:
            self.given[name] = at
        elif noted.line:
            why = f"expected a time such as 2026-03-01T10:00:00Z, got {quoted(noted.text)}"
            self.faults.append(self.file.refuse(why, line=noted.line, field=key))
        else:
            self._label(key, noted)

    def _label(self, key: str, noted: Noted) -> None:
        if key not in _NO_LABEL:
            self.labels.setdefault(key, noted.text[:2000])

    def tell(self, part: _Part) -> None:
        """Take one section of the page."""
        if part.field == "title":
            self.given.setdefault("title", part.heading)
        if part.field in ("preamble", "title", "notes"):
            only = None if part.field == "notes" else _PEOPLE | _FIELD_OF_KEY.keys()
            notes, part.lines = noted_in(part.lines, only=only)
            for key, noted in notes.items():
                self.note(key, noted)
        if part.field in ("updates", "dated") and self._add_updates(part):
            return
        if part.field != "people" and not _is_nothing(part.text):
            self._place(part)

    def _place(self, part: _Part) -> None:
        if part.field == "services" and (names := _short(_list_of(part.text))):
            self.given.setdefault("services", names)
        elif part.field == "actions":
            self.given.setdefault("actions", []).extend(_list_of(part.text))
        else:
            name = {"services": "symptoms"}.get(part.field or "", part.field)
            self.parts.setdefault(name if name in _TEXTS else "summary", []).append(part)

    def _add_updates(self, part: _Part) -> bool:
        headed = _day_in(part.heading)
        found = entries(part.text, day=headed or self.given.get("started_at") or self._day())
        if part.field == "dated" and not any(entry.at for entry in found):
            found = [replace(_NO_ENTRY, text=part.text, at=headed)] if part.text else []
        self.updates += [entry.as_update() for entry in found]
        return bool(found)

    def _day(self) -> datetime | None:
        match = _FILE_DATE.search(self.file.path.name)
        return read_moment(match[1]) if match else None

    def fields(self) -> dict[str, Any]:
        """The fields of the incident; over, unless the page says otherwise: it is a postmortem."""
        fields = {
            "source": KIND,
            "source_id": self.file.name,
            "title": _title_of(self.file.path),
            "started_at": self._start(),
            "status": "resolved",
            "updates": self.updates,
            "labels": self.labels,
            **{name: _joined(parts) for name, parts in self.parts.items()},
        }
        return fields | self.given

    def _start(self) -> datetime | None:
        """The first time in the timeline, else the day in the file's name."""
        start = min((u["at"] for u in self.updates if u["at"]), default=self._day())
        end = self.given.get("resolved_at")
        return None if start and end and end < start else start


_NO_ENTRY = Entry("")


def _is_nothing(text: str) -> bool:
    """Whether a section of the template was left as it came."""
    return len(text) < 40 and bool(_NOTHING.fullmatch(text))


def _parts(body: str) -> list[_Part]:
    """The sections in order; a sub-section that we do not know belongs to the one above it."""
    parts = [_Part("", 0, "preamble", [])]
    for heading, level, line in _headed(body):
        above = parts[-1]
        if heading is None or _folds_into(above, heading, level):
            above.lines.append(line)
            continue
        name = _field_of(heading)
        if name is None and len(parts) == 1 and level <= 2:
            name = "title"
        parts.append(_Part(heading, level, name, []))
    return parts


def _folds_into(above: _Part, heading: str, level: int) -> bool:
    """Under lessons everything deeper does: "Mitigation" there is a wish, not what was done."""
    if level <= above.level or above.field in ("preamble", "title"):
        return False
    return above.field == "lessons" or _field_of(heading) is None


def _headed(body: str) -> Iterator[tuple[str | None, int, str]]:
    """Each line, with its heading and level when it is one; what is fenced never is."""
    fence, lines = "", body.splitlines()
    underlined = False
    for number, line in enumerate(lines):
        if underlined:
            underlined = False
            continue
        mark = _FENCE.match(line)
        heading, level = (None, 0) if fence or mark else _heading_of(line)
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if mark:
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        elif not fence and not heading and _UNDERLINE.fullmatch(following) and _is_title(line):
            heading, level, underlined = _bare(line), 1 if following[0] == "=" else 2, True
        yield heading, level, line


def _heading_of(line: str) -> tuple[str | None, int]:
    if len(line) > _LONGEST_HEADING:
        return None, 0
    if match := _HEADING.fullmatch(line):
        return _bare(match[2]), len(match[1])
    if (match := _BOLD_LINE.fullmatch(line)) and _field_of(_bare(match[1])):
        return _bare(match[1]), 6
    return None, 0


def _is_title(line: str) -> bool:
    return 0 < len(line.strip()) < 120 and "|" not in line and not _BULLET.match(line)


def _bare(heading: str) -> str:
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return " ".join(heading.replace("**", "").replace("`", "").split()).rstrip(":").strip()


def _field_of(heading: str) -> str | None:
    words = re.split(r"\s[-–—]\s|\(|:\s", heading.lower())[0]
    words = re.sub(r"^[\W\d_]+|[\W_]+$", "", words)
    name = next((name for name, pattern in _KNOWN if pattern.fullmatch(words)), None)
    return name or ("dated" if read_moment(heading) else None)


def _day_in(heading: str) -> datetime | None:
    """The day that a heading such as `Timeline - May 29, 2021` names."""
    pieces = [heading, *re.split(r"\s[-–—]\s|[()]", heading)]
    return next((at for at in map(read_moment, pieces) if at), None)


def _joined(parts: list[_Part]) -> str:
    """One text of several sections; headed where they are several or were not understood."""
    if len(parts) == 1 and parts[0].field:
        return parts[0].text
    texts = ((p.heading if p.field != "title" else "", p.text) for p in parts)
    return "\n\n".join(f"{heading}\n{text}" if heading else text for heading, text in texts)


def _list_of(text: str) -> list[str]:
    """The list items of a section, else its paragraphs."""
    items = [_BULLET.sub("", line).strip() for line in text.splitlines() if _BULLET.match(line)]
    return items or [" ".join(p.split()) for p in text.split("\n\n") if p.strip()]


def _short(items: list[str]) -> list[str]:
    """The items that can be names; prose about the services is none."""
    return [item for item in items if 0 < len(item) <= 80]


def _without_comments(text: str) -> str:
    """Without `<!-- ... -->`: the instructions of the template."""
    kept, at = [], 0
    while (opens := text.find("<!--", at)) >= 0 and (closes := text.find("-->", opens)) >= 0:
        kept.append(text[at:opens])
        at = closes + 3
    return "".join(kept) + text[at:]


def _title_of(path: Path) -> str:
    """The file's name as a title: `2020-06-13-disk_full.md` is "disk full"."""
    words = re.sub(r"[-_\s]+", " ", _FILE_DATE.sub("", path.stem)).strip()
    return words or path.stem
