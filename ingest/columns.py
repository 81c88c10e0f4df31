"""Columns: which of a table's columns tells which field of an incident."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ingest.errors import Refused, Unreadable
from ingest.frontmatter import key_of
from ingest.refusal import nearest, quoted

MOST_LISTED = 40

# In order of preference; lists take every column that is named here, all others the first.
NAMES: dict[str, tuple[str, ...]] = {
    "source": ("source",),
    "source_id": (
        "source_id", "number", "incident_number", "incident_id", "issue_key", "key", "ticket_id",
        "ticket_number", "ticket", "case_number", "id", "incident", "reference", "ref", "issue_id",
        "sys_id",
    ),
    "title": (
        "title", "short_description", "incident_title", "subject", "headline", "incident_name",
        "name", "summary", "description",
    ),
    "summary": (
        "summary", "description", "incident_summary", "long_description", "details", "overview",
    ),
    "services": (
        "services", "service", "service_name", "affected_services", "affected_service",
        "services_affected", "business_service", "cmdb_ci", "component_s", "components",
        "component", "affected_systems", "systems", "system", "application",
    ),
    "severity": ("severity", "sev", "severity_level", "priority", "urgency", "impact"),
    "status": ("status", "state", "incident_state", "incident_status"),
    "started_at": (
        "started_at", "start_time", "started", "start", "start_date", "opened_at", "opened",
        "created_at", "created_on", "created", "sys_created_on", "sys_created_at", "occurred_at",
        "incident_date", "date", "timestamp", "reported_at", "time",
    ),
    "detected_at": ("detected_at", "detected", "detection_time"),
    "resolved_at": (
        "resolved_at", "resolved_on", "resolved", "resolution_date", "end_time", "ended_at",
        "ended", "end", "end_date", "closed_at", "closed_on", "closed",
    ),
    "known_at": ("known_at",),
    "symptoms": (
        "symptoms", "symptom", "u_symptom", "impact_description", "customer_impact", "user_impact",
    ),
    "root_cause": ("root_cause", "rootcause", "u_root_cause", "cause", "rca"),
    "cause_family": ("cause_family", "cause_category", "root_cause_category"),
    "resolution": (
        "close_notes", "resolution_notes", "resolution_details", "resolution_summary", "resolution",
        "fix", "workaround", "remediation", "mitigation",
    ),
    "actions": ("actions", "actions_taken"),
    "lessons": ("lessons", "lessons_learned", "learnings"),
    "url": ("url", "link", "permalink", "html_url", "incident_url"),
    "updates": ("updates", "comment", "comments", "work_notes", "comments_and_work_notes"),
}  # fmt: skip
LABELS = (
    "tags", "labels", "category", "subcategory", "environment", "env", "region", "team", "teams",
    "assignment_group", "location", "vendor", "year", "project_key", "issue_type", "close_code",
    "closed_code", "contact_type", "customer", "datacenter", "cluster", "type", "resolution",
)  # fmt: skip
# When a row was last changed: how a version of an incident is dated where its rows are versions.
CHANGED = (
    "sys_updated_at", "sys_updated_on", "updated_at", "updated_on", "updated", "last_modified",
    "last_updated", "modified_at", "modified",
)  # fmt: skip
SEVERAL = {"services", "updates", "actions"}
TIMES = {"started_at", "detected_at", "resolved_at", "known_at"}
_TOOLS = {
    "servicenow": {"sys_id", "sys_created_by", "sys_updated_by", "sys_mod_count", "cmdb_ci"},
    "jira": {"issue_key", "issue_type", "project_key", "issue_id"},
    "pagerduty": {"escalation_policy_name", "escalation_policy_id", "seconds_to_first_ack"},
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each field stands in a row; `words` are the same in every row.

    A field is one of an incident's, or `labels.` and a name. `*` for the `source_id` among the
    words is an id made from the whole row.
    """

    names: list[str]
    places: dict[str, list[int]]
    words: dict[str, str]

    def of_versions(self) -> "Columns":
        """The same for a table of versions: `known_at` is when a row was changed, where told."""
        keys = [key_of(name) for name in self.names]
        changed = next((keys.index(key) for key in CHANGED if key in keys), None)
        if changed is None or "known_at" in self.places or "known_at" in self.words:
            return self
        return replace(self, places={**self.places, "known_at": [changed]})

    def called(self) -> dict[str, str]:
        """What this table calls each field."""
        return {field: self.names[places[0]] for field, places in self.places.items()}


def columns_of(names: Sequence[str], mapped: Mapping[str, str]) -> Columns:
    """The columns under these names, those that the map gives before those that are known.

    `Unreadable` when the table has no such column, or none for the id or the title; `Refused` when
    the map names a field that an incident does not have.
    """
    check_map(mapped)
    words = {f: column.removeprefix("=") for f, column in mapped.items() if _is_words(f, column)}
    places = {f: _places(column, names) for f, column in mapped.items() if f not in words}
    taken = {n for places_of_one in places.values() for n in places_of_one}
    free = ["" if n in taken else key_of(name) for n, name in enumerate(names)]
    found = {f: n for f, n in known_places(free).items() if f not in words}
    columns = Columns(list(names), found | places, words)
    _must_have_id_and_title(columns)
    return columns


def check_map(mapped: Mapping[str, str]) -> None:
    """Raise `Refused` when the map names a field that an incident does not have."""
    for field in mapped:
        if field in NAMES or field.startswith("labels."):
            continue
        meant = nearest(field, NAMES)
        hint = f"did you mean {meant!r}?" if meant else f"known are {', '.join(NAMES)}, labels.NAME"
        raise Refused(f"a table has no field {quoted(field)} to be mapped; {hint}")


def known_places(keys: Sequence[str]) -> dict[str, list[int]]:
    """The fields whose columns are known by name; a column tells one field.

    Only a `description` that has to serve as the title is the summary as well.
    """
    found: dict[str, list[int]] = {}
    taken: set[int] = set()
    for field, known in NAMES.items():
        free = [n for name in known for n, key in enumerate(keys) if key == name and n not in taken]
        if free:
            found[field] = free if field in SEVERAL else free[:1]
            taken.update(found[field])
    if "summary" not in found and "title" in found and keys[found["title"][0]] == "description":
        found["summary"] = found["title"]
    for name in LABELS:
        if places := [n for n, key in enumerate(keys) if key == name and n not in taken]:
            found[f"labels.{name}"] = places
    return found


def tool_of(names: Sequence[str]) -> str | None:
    """The tool whose export has these columns: two names of its own tell."""
    keys = {key_of(name) for name in names}
    return next((tool for tool, own in _TOOLS.items() if len(keys & own) >= 2), None)


def _is_words(field: str, column: str) -> bool:
    return column.startswith("=") or (field, column) == ("source_id", "*")


def _places(column: str, names: Sequence[str]) -> list[int]:
    places = [n for n, name in enumerate(names) if name == column]
    places = places or [
        n for n, name in enumerate(names) if name and key_of(name) == key_of(column)
    ]
    if places:
        return places
    meant = nearest(column, [name.lower() for name in names])
    hint = f"did you mean {quoted(meant)}?" if meant else f"there are {_listed(names)}"
    raise Unreadable(f"no column {quoted(column)}; {hint}")


def _must_have_id_and_title(columns: Columns) -> None:
    for field, example in (("source_id", "number"), ("title", "short_description")):
        if field in columns.places or field in columns.words:
            continue
        whole = ", or --map 'source_id=*' for an id made from the whole row"
        raise Unreadable(
            f"no column for {field} among {_listed(columns.names)}; say which it is, "
            f"such as --map {field}={example}{whole if field == 'source_id' else ''}"
        )


def _listed(names: Sequence[str]) -> str:
    shown = [quoted(name).strip("'") for name in names if name.strip()]
    more = f" and {len(shown) - MOST_LISTED} more" if len(shown) > MOST_LISTED else ""
    return ", ".join(shown[:MOST_LISTED]) + more
