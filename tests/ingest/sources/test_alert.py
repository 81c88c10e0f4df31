"""Firing alerts as questions."""

import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import Unreadable
from ingest.sources.alert import LONGEST_QUESTION, AlertQuestion, read_alert

DEV = Path(__file__).parents[4] / "shared" / "data" / "dev"

NOISE = re.compile(r"https?://|[0-9a-f]{8}-[0-9a-f]{4}|\b[0-9a-f]{24,}\b|\{\{|@example")


def test_an_alertmanager_group_asks_about_what_is_firing():
    alert = {
        "version": "4",
        "status": "firing",
        "receiver": "ops",
        "externalURL": "http://alerts.example:9093",
        "commonLabels": {"alertname": "HighErrorRate", "severity": "critical", "job": "checkout"},
        "commonAnnotations": {"runbook_url": "https://runbooks.example/errors"},
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "HighErrorRate", "job": "checkout", "instance": "pod-1"},
                "annotations": {
                    "summary": "5% of requests fail",
                    "description": "See [the board](https://g.example/d/1): code 503",
                },
                "startsAt": "2026-03-01T10:00:00.123456789Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "fingerprint": "a1bc48475b20e73d",
            },
            {"status": "resolved", "labels": {"alertname": "Other"}, "annotations": {}},
        ],
    }

    assert read_alert(alert) == AlertQuestion(
        text="HighErrorRate\n5% of requests fail\nSee the board: code 503\n"
        "job: checkout\ninstance: pod-1",
        services=["checkout"],
        severity="critical",
        at=datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC),
    )


def test_a_pagerduty_event_asks_about_its_incident():
    alert = {
        "event": {
            "id": "01BW",
            "event_type": "incident.triggered",
            "occurred_at": "2026-03-01T10:00:00Z",
            "agent": {"type": "user_reference", "summary": "Somebody"},
            "data": {
                "id": "PGR0",
                "type": "incident",
                "title": "Queue is growing",
                "service": {"type": "service_reference", "summary": "mailer", "id": "P1"},
                "priority": {"type": "priority_reference", "summary": "P2"},
                "urgency": "high",
            },
        }
    }

    assert read_alert(alert) == AlertQuestion(
        text="Queue is growing\nservice: mailer",
        services=["mailer"],
        severity="P2",
        at=datetime(2026, 3, 1, 10, tzinfo=UTC),
    )


def test_an_alarm_inside_an_sns_message_is_found():
    alarm = {
        "AlarmName": "api-5xx",
        "AlarmDescription": "API error rate exceeds 5%",
        "AWSAccountId": "123456789012",
        "NewStateReason": "Threshold Crossed: 1 datapoint [9.0] was greater than 5.0",
        "StateChangeTime": "2026-03-01T10:00:00.000+0000",
        "AlarmArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:api-5xx",
        "Trigger": {
            "MetricName": "5XXError",
            "Namespace": "AWS/ApiGateway",
            "Dimensions": [{"name": "ApiName", "value": "orders"}],
        },
    }
    alert = {"Type": "Notification", "MessageId": "e1", "Message": json.dumps(alarm)}

    assert read_alert(alert) == AlertQuestion(
        text="api-5xx\nAPI error rate exceeds 5%\n"
        "Threshold Crossed: 1 datapoint [9.0] was greater than 5.0\n"
        "MetricName: 5XXError\nNamespace: AWS/ApiGateway\nApiName: orders",
        at=datetime(2026, 3, 1, 10, tzinfo=UTC),
    )


def test_a_datadog_monitor_gives_up_its_tags():
    alert = {
        "title": "[Triggered] Low disk on {{host.name}}",
        "body": "%%%\nDisk is below 20%\n%%%",
        "tags": "service:db, env:prod",
        "priority": "P3",
        "id": "77",
        "date": 1772359200000,
    }

    assert read_alert(alert) == AlertQuestion(
        text="Low disk on\nDisk is below 20%\nservice: db\nenv: prod",
        services=["db"],
        severity="P3",
        at=datetime(2026, 3, 1, 10, tzinfo=UTC),
    )


def test_a_tool_that_nobody_knew_is_read_by_the_same_words():
    alert = {
        "payload": {
            "uuid": "5ae0a9f2-7c52-4b6e-9d7a-0a6a3f2f1c11",
            "headline": "Payments are declined",
            "what": "the card gateway answers 502 since noon",
            "app": "card-api",
            "n": 3,
        }
    }

    assert read_alert(alert) == AlertQuestion(
        text="Payments are declined\nwhat: the card gateway answers 502 since noon\napp: card-api",
        services=["card-api"],
    )


def test_what_is_too_long_for_a_question_is_kept_as_evidence():
    log = "\n".join(f"line {n} of the stack" for n in range(500))

    question = read_alert({"title": "Crash", "log": log})

    assert question.text.startswith("Crash\nline 0 of the stack\nline 1")
    assert len(question.text) <= LONGEST_QUESTION
    assert [(e.kind, e.source, e.text) for e in question.evidence] == [("log", "log", log)]


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, "the alert is an empty object"),
        ([], "an alert is a JSON object as its tool sends it, not a list"),
        ("Open", "an alert is a JSON object as its tool sends it, not a text"),
        (None, "an alert is a JSON object as its tool sends it, not nothing"),
        ({"id": "7", "url": "https://x.example"}, "no words in this alert to search by"),
        ({"a": {"b": [None, True, {}]}}, "no words in this alert to search by"),
    ],
)
def test_what_is_no_alert_is_refused(payload, told):
    with pytest.raises(Unreadable, match=told):
        read_alert(payload)


def test_every_public_sample_gives_a_short_clean_question():
    if not DEV.is_dir():
        pytest.skip("the public webhooks (shared/data/dev) are not beside this checkout")

    # Some tools' samples are cut into one file per field; together they are one payload.
    payloads: dict[str, dict[str, object]] = defaultdict(dict)
    for path in sorted((DEV / "webhooks").glob("*/*.json")):
        sample = json.loads(path.read_text())
        if isinstance(sample, dict):
            payloads[f"{path.parent.name}/{path.stem}"] = sample
        else:
            payloads[path.parent.name][path.stem] = sample
    questions = {name: read_alert(payload) for name, payload in payloads.items()}

    assert len(questions) == 43
    assert [
        n for n, q in questions.items() if not 3 < len(q.text) < 1000 or NOISE.search(q.text)
    ] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["alerts", "labels", "title", "Message", "event", "data", "tags", "key", "value",
                 "startsAt", "service", "severity", "type", "summary", "log", "name"]
            )
            | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(payload=json_values)
def test_whatever_the_payload_only_a_question_or_a_refusal_comes_out(payload):
    try:
        question = read_alert(payload)
    except Unreadable:
        return

    assert 0 < len(question.text) <= LONGEST_QUESTION
    assert AlertQuestion.model_validate_json(question.model_dump_json()) == question


def test_a_payload_nested_without_end_is_refused_in_words():
    deep: object = "x"
    for _ in range(50_000):
        deep = {"a": deep}

    with pytest.raises(Unreadable, match="no words"):
        read_alert(deep)
