"""What a text says was seen: codes, hosts, places, measurements, and what only looks like one."""

import pytest

from retrieval.signs import Measure, codes, measures, signs, subjects


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("HTTP 503 from checkout", ["503"]),
        ("status=429, code: 404", ["429", "404"]),
        ("it served 502s and 5xx errors", ["502", "5xx"]),
        ("connect ECONNREFUSED 10.0.0.1", ["ECONNREFUSED"]),
        ("java.net.SocketTimeoutException: read", ["java.net.SocketTimeoutException"]),
        ("OOMKilled, exit code 137", ["OOMKilled", "exit code 137"]),
        ("ORA-00600 and RESOURCE_EXHAUSTED", ["ORA-00600", "RESOURCE_EXHAUSTED"]),
        ("503 ms, 503%, v1.503, 503 customers, port 5032, order-404", []),
        ("an ERROR, an Error, EVENT, EAST", []),
    ],
)
def test_error_codes_are_told_from_other_numbers_and_words(text, found):
    assert sorted(codes(text).values()) == sorted(found)


@pytest.mark.parametrize(
    ("text", "subject", "value", "unit", "span"),
    [
        ("CPU was at 95 % on db-3", "cpu", 95.0, "%", "CPU was at 95 %"),
        ("disk usage: 97%", "disk", 97.0, "%", "disk usage: 97%"),
        ("a 15% error rate", "error rate", 15.0, "%", "15% error rate"),
        ("latency of 1,500 ms", "latency", 1.5, "s", "latency of 1,500 ms"),
        ("Replication lag above 5 min", "replication lag", 300.0, "s", None),
        ("the heap grew to 2 GiB", "heap", 2.0**31, "b", "heap grew to 2 GiB"),
    ],
)
def test_a_measurement_has_a_subject_and_one_scale(text, subject, value, unit, span):
    assert measures(text) == [Measure(subject, value, unit, span or text)]


@pytest.mark.parametrize(
    "text", ["it took 25 minutes", "CPU was fine. 30 users left", "97 percent of disks-r-us"]
)
def test_a_number_without_a_subject_beside_it_is_no_measurement(text):
    assert measures(text) == []


def test_hosts_and_places_are_told_apart():
    found = signs("db-3 and ip-10-0-0-7.compute.internal in us-east-1a, utf-8, sha-256, step-3")

    assert list(found.hosts.values()) == ["db-3", "ip-10-0-0-7.compute.internal"]
    assert list(found.places.values()) == ["us-east-1a"]


def test_the_host_of_a_link_is_not_a_host():
    assert signs("see https://docs.example.com/a-1 and write to ops@example.com").hosts == {}


def test_subjects_are_whole_words():
    assert subjects("the flag was set; the consumer lag and the queues grew") == {
        "consumer lag",
        "lag",
        "queue",
    }
