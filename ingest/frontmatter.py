"""Front matter: the `key: value` notes at the head of a page, each with its line."""

import re
from collections.abc import Container
from dataclasses import dataclass

import yaml

from ingest.errors import Unreadable

MOST_BRACKETS = 500  # the YAML parser takes seconds for some thousands, one inside the other
LONGEST_NOTES = 16 * 1024  # what YAML is parsed of; the longest seen had 1,500 characters

_OPENS = re.compile(r"\s*---[ \t]*\r?\n")
_CLOSES = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$\n?", re.M)
_NOTE = re.compile(
    r"\s*(?:[-*+]\s+)?(?:\*\*|__)?([A-Za-z][A-Za-z _/-]{1,38}?)"
    r"(?:\*\*|__)?\s*:(?:\*\*|__)?\s+(\S.*)"
)


class BadNotes(Unreadable):
    """The front matter is not YAML of `key: value`; `line` is the line of the file."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True, slots=True)
class Noted:
    """A value as written, with its line in front matter; more than one item is a list."""

    items: list[str]
    line: int | None = None

    @property
    def text(self) -> str:
        return "; ".join(self.items)

    @property
    def names(self) -> list[str]:
        """The items of a list, also of one written as `api, web`."""
        items = self.items if len(self.items) > 1 else re.split(r"[,;]", self.items[0])
        return [item.strip() for item in items if item.strip()]


@dataclass(frozen=True, slots=True)
class Page:
    """A page without its front matter, and what that noted."""

    notes: dict[str, Noted]
    body: str


def front_matter(text: str) -> Page:
    """The page taken apart; no notes where it has no front matter; `BadNotes` where it is broken.

    Every value is text as written: nothing becomes a date, an octal number or a truth value by
    the way it looks.
    """
    opening = _OPENS.match(text)
    closing = _CLOSES.search(text, opening.end()) if opening else None
    if not opening or not closing:
        return Page({}, text)
    line = text.count("\n", 0, opening.end())
    if closing.start() - opening.end() > LONGEST_NOTES:
        raise BadNotes(f"front matter of more than {LONGEST_NOTES} characters", line)
    return Page(_notes(text[opening.end() : closing.start()], line), text[closing.end() :])


def noted_in(
    lines: list[str], *, only: Container[str] | None = None
) -> tuple[dict[str, Noted], list[str]]:
    """The `**Key:** value` lines, and the other lines; of `only` these keys if given."""
    notes: dict[str, Noted] = {}
    rest: list[str] = []
    for line in lines:
        match = _NOTE.fullmatch(line)
        key = key_of(match[1]) if match else ""
        if match and key not in notes and (only is None or key in only):
            notes[key] = Noted([match[2].strip().strip("*").strip()])
        else:
            rest.append(line)
    return notes, rest


def key_of(name: str) -> str:
    """`Time to recovery` as `time_to_recovery`."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _notes(block: str, line: int) -> dict[str, Noted]:
    if block.count("[") + block.count("{") > MOST_BRACKETS:
        raise BadNotes(f"front matter with more than {MOST_BRACKETS} brackets", line)
    try:
        root = yaml.compose(block, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark.line if error.problem_mark else 0
        raise BadNotes(f"the front matter is not YAML: {error.problem}", line + at + 1) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadNotes(
            f"the front matter is not YAML: {str(error).splitlines()[0]}", line
        ) from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise BadNotes("the front matter is not a list of `key: value`", line + 1)
    notes: dict[str, Noted] = {}
    for key, value in root.value:
        at = line + key.start_mark.line + 1
        name = key_of(key.value) if isinstance(key, yaml.ScalarNode) else ""
        if name in notes:
            raise BadNotes(f"{key.value!r} is there twice; keep one of them", at)
        if name and (items := _items(value)):
            notes[name] = Noted(items, at)
    return notes


def _items(node: yaml.Node) -> list[str]:
    """The scalar, or the scalars of a list; what is nested deeper is not ours to read."""
    if isinstance(node, yaml.SequenceNode):
        return [
            item
            for child in node.value
            if isinstance(child, yaml.ScalarNode)
            for item in _scalar(child)
        ]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    return []


def _scalar(node: yaml.ScalarNode) -> list[str]:
    value = str(node.value).strip()
    return [] if node.style is None and value.lower() in ("", "~", "null") else [value]
