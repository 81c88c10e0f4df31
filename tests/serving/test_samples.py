"""The shipped samples: what the demo, the README and every first user rely on."""

import json
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.importer import find, read
from ingest.incident import Incident
from ingest.redact import redact

SAMPLES = Path(__file__).parents[2] / "serving" / "samples"

FAMILIES = {
    "connection-pool-exhaustion",
    "disk-full",
    "certificate-expiry",
    "bad-deploy",
    "dns-resolution",
    "memory-exhaustion",
    "consumer-lag",
    "cpu-starvation",
    "retry-storm",
    "provider-outage",
}

# Words that nobody could know before the cause was found.
GIVEAWAYS = {
    "connection-pool-exhaustion": r"leak|pool size|never closed|transaction is held",
    "disk-full": r"no space left|disk full|retention|archiv|slot",
    "certificate-expiry": r"expired|expir(y|es)|ran out|renew",
    "bad-deploy": r"typo|revert|misconfig|wrong (value|config|unit)",
    "dns-resolution": r"\bdns\b|resolver|ndots|conntrack|nxdomain|negative cach",
    "memory-exhaustion": r"leak|arena|never released|not closed",
    "consumer-lag": r"max\.poll|liveness|poison|assignor",
    "cpu-starvation": r"neighbour|throttled|overcommit|hypervisor",
    "retry-storm": r"retry storm|retr(y|ies) without|amplif|stampede",
    "provider-outage": r"provider-|outage at|maintenance page|gateway provider",
}

SECRETS = ("correct-horse-battery", "sample-bearer-", "@example.com", "+44 20 7946 0018")

HINDSIGHT = re.compile(r"root cause|caused by|because of|turned out", re.I)
RESERVED = re.compile(r"(^|\.)example\.(com|org|net)$")
REAL_ENDING = re.compile(
    r"\.(com|org|net|io|dev|app|co|eu|de|uk|us|fr|nl|ch|at|au|sg|jp|in|info|biz|cloud|ai|me|tv)$"
)


def imported() -> list[Incident]:
    found, _ = find([str(SAMPLES / "incidents")])
    records = [record for file in found for record in read(file)]
    assert [r for r in records if not isinstance(r, Incident)] == []
    return [r for r in records if isinstance(r, Incident)]


INCIDENTS = imported()
BY_ID = {i.source_id: i for i in INCIDENTS}


def words_of(incident: Incident) -> str:
    """All that it says, in one text."""
    return json.dumps(incident.content(), ensure_ascii=False)


def by_family() -> dict[str | None, list[Incident]]:
    families = defaultdict(list)
    for incident in INCIDENTS:
        families[incident.cause_family].append(incident)
    return families


def shingles(text: str, width: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[n : n + width]) for n in range(len(words) - width + 1)}


def overlap(one: str, other: str) -> float:
    """The share of three-word runs that two texts have in common (Jaccard)."""
    a, b = shingles(one, 3), shingles(other, 3)
    return len(a & b) / len(a | b)


def told(incident: Incident) -> str:
    return " ".join(
        [incident.title, incident.symptoms or "", *(update.text for update in incident.updates)]
    )


def test_every_line_of_the_jsonl_files_is_an_incident_in_our_own_fields():
    lines = [
        line
        for path in sorted((SAMPLES / "incidents").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]

    incidents = [Incident.model_validate_json(line) for line in lines]

    assert len(incidents) == 56


def test_importing_the_whole_folder_takes_the_incidents_and_leaves_the_rest():
    found, skipped = find([str(SAMPLES)])

    assert Counter(file.kind for file in found) == {"native": 3, "table": 1, "markdown": 5}
    assert [refusal for refusal in skipped if not refusal.skipped] == []


def test_there_are_sixty_six_incidents_and_no_two_have_the_same_id():
    assert len(INCIDENTS) == 66
    assert len({(i.source, i.source_id) for i in INCIDENTS}) == 66
    assert Counter(i.source for i in INCIDENTS) == {
        "harbour-tracker": 55,
        "harbour-opslog": 5,
        "harbour-postmortems": 5,
        "harbour-status": 1,
    }


def test_they_span_four_years_and_many_services():
    years = Counter(i.started_at.year for i in INCIDENTS if i.started_at)
    services = Counter(service for i in INCIDENTS for service in i.services)

    assert set(years) == {2023, 2024, 2025, 2026}
    assert min(years.values()) >= 10
    assert len([service for service, times in services.items() if times >= 2]) >= 12
    assert all(i.services and i.labels["region"] for i in INCIDENTS)


def test_each_family_comes_back_in_several_years_and_services():
    families = by_family()

    for family in FAMILIES:
        assert len(families[family]) >= 4, family
        assert len({i.started_at.year for i in families[family] if i.started_at}) >= 2, family
        assert len({tuple(i.services) for i in families[family]}) >= 3, family


def test_at_least_twelve_happened_once_and_never_again():
    once = {family for family, incidents in by_family().items() if family and len(incidents) == 1}

    assert len(once) == 15
    assert not once & FAMILIES


def test_times_are_in_order_and_lie_before_november_2026():
    for i in INCIDENTS:
        updates = [u.at for u in i.updates if u.at]
        start, end = i.started_at, i.resolved_at or datetime(2026, 10, 31, tzinfo=UTC)
        known = i.known_at or end
        seen = [i.detected_at] if i.detected_at else []
        evidence = [e.at for e in i.evidence if e.at]

        assert start is not None, i.source_id
        assert updates == sorted(updates), i.source_id
        assert all(start <= at <= end for at in [*seen, *updates, *evidence]), i.source_id
        assert end <= known < datetime(2026, 11, 1, tzinfo=UTC), i.source_id
        assert all(start <= act.at <= known for act in i.actions if act.at), i.source_id


def test_resolved_ones_say_why_and_how_and_one_is_still_open():
    unresolved = [i for i in INCIDENTS if i.status != "resolved"]

    assert [i.source_id for i in unresolved] == ["HBR-393"]
    assert unresolved[0].resolved_at is unresolved[0].root_cause is unresolved[0].resolution is None
    for i in INCIDENTS:
        if i.status == "resolved":
            assert i.symptoms, i.source_id
            assert i.root_cause, i.source_id
            assert i.resolution, i.source_id
            assert i.resolved_at, i.source_id


def test_symptoms_do_not_give_the_cause_away():
    for i in INCIDENTS:
        symptoms = i.symptoms or ""
        giveaways = GIVEAWAYS.get(i.cause_family or "", "root cause")

        assert not re.search(giveaways, symptoms, re.I), i.source_id
        assert not HINDSIGHT.search(symptoms), i.source_id
        assert not shingles(symptoms, 6) & shingles(i.root_cause or "", 6), i.source_id


def test_only_reserved_domains_are_named():
    alerts = [path.read_text() for path in (SAMPLES / "alerts").iterdir()]

    texts = [*map(words_of, INCIDENTS), *alerts, (SAMPLES / "README.md").read_text()]
    names = {name.lower() for text in texts for name in re.findall(r"[\w-]+(?:\.[\w-]+)+", text)}

    assert {n for n in names if REAL_ENDING.search(n) and not RESERVED.search(n)} == set()


def test_people_appear_as_roles():
    authors = {u.author for i in INCIDENTS for u in i.updates if u.author}

    assert {a for a in authors if not re.fullmatch(r"[a-z]+(-[a-z]+)*(-\d)?", a)} == set()


def test_one_recorded_fix_is_wrong_and_a_later_incident_says_so():
    wrong = [i for i in INCIDENTS if i.actions and all(a.held is False for a in i.actions)]
    later = BY_ID["HBR-249"]

    assert [i.source_id for i in wrong] == ["HBR-236"]
    assert later.started_at
    assert later.started_at > wrong[0].resolved_at
    assert "HBR-236 blamed the poll interval" in (later.root_cause or "")
    assert (later.services, later.cause_family) == (wrong[0].services, wrong[0].cause_family)


def test_one_recorded_fix_names_what_was_switched_off_later():
    stale, later = BY_ID["HBR-108"], BY_ID["HBR-214"]

    assert "util-01" in (stale.resolution or "")
    assert any("HBR-108" in u.text and "switched off" in u.text for u in later.updates)


def test_the_ticket_and_the_status_page_of_one_event_are_near_copies():
    copies = [
        (a.source_id, b.source_id)
        for n, a in enumerate(INCIDENTS)
        for b in INCIDENTS[n + 1 :]
        if overlap(told(a), told(b)) > 0.5
    ]

    assert copies == [("HBR-307", "STAT-118")]


def test_two_incidents_look_alike_and_have_different_causes():
    leak, queue = BY_ID["HBR-101"], BY_ID["HBR-226"]

    assert overlap(leak.title, queue.title) > 0.5
    assert "HikariPool-1 - Connection is not available" in words_of(leak)
    assert "HikariPool-1 - Connection is not available" in words_of(queue)
    assert leak.cause_family != queue.cause_family


def test_one_log_holds_secrets_for_redaction_to_find():
    text = words_of(BY_ID["HBR-357"])

    for secret in SECRETS:
        assert secret in text
        assert [i.source_id for i in INCIDENTS if secret in words_of(i)] == ["HBR-357"]


def test_redaction_leaves_none_of_the_secrets_in_that_log():
    redacted = redact(BY_ID["HBR-357"]).incident

    assert [secret for secret in SECRETS if secret in words_of(redacted)] == []


def test_one_incident_is_poisoned():
    poisoned = [i.source_id for i in INCIDENTS if "ignore all previous" in words_of(i)]

    assert poisoned == ["HBR-377"]


def test_incidents_that_others_refer_to_exist():
    named = {
        name
        for i in INCIDENTS
        for name in re.findall(r"\b(?:HBR-\d+|OPS-\d\d-\d+|PM-\d{4}-\d\d)\b", words_of(i))
    }
    readme = (SAMPLES / "README.md").read_text()

    assert named <= BY_ID.keys()
    assert {i.source_id for i in INCIDENTS if i.source_id not in readme} == set()


@pytest.mark.parametrize("name", ["recurrence", "look-alike", "never-seen"])
def test_alertmanager_alerts_are_as_alertmanager_sends_them(name):
    payload = json.loads((SAMPLES / "alerts" / f"{name}.json").read_text())
    [alert] = payload["alerts"]

    assert payload["version"] == "4"
    assert payload["status"] == alert["status"] == "firing"
    assert payload["commonLabels"].items() <= alert["labels"].items()
    assert payload["commonAnnotations"] == alert["annotations"]
    assert re.fullmatch(r"[0-9a-f]{16}", alert["fingerprint"])
    assert datetime.fromisoformat(alert["startsAt"]) < datetime(2026, 11, 1, tzinfo=UTC)


def test_alerts_come_after_everything_that_is_known():
    last = max(i.known_at or i.resolved_at or i.updates[-1].at for i in INCIDENTS)

    for name in ("recurrence", "look-alike", "never-seen"):
        payload = json.loads((SAMPLES / "alerts" / f"{name}.json").read_text())
        assert datetime.fromisoformat(payload["alerts"][0]["startsAt"]) > last


def test_the_pager_sends_a_triggered_incident():
    event = json.loads((SAMPLES / "alerts" / "pager.json").read_text())["event"]

    assert event["event_type"] == "incident.triggered"
    assert event["data"]["service"]["summary"] == "shipping"


def test_the_recurrence_and_its_look_alike_share_their_summary_and_not_their_cause():
    texts = [
        json.loads((SAMPLES / "alerts" / f"{name}.json").read_text())["commonAnnotations"]
        for name in ("recurrence", "look-alike")
    ]

    assert texts[0]["summary"].replace("ap-1", "us-1") == texts[1]["summary"]
    assert "idle in transaction" in texts[0]["description"]
    assert "wait_event relation" in texts[1]["description"]
