"""The command line as a person types it: real processes, whole outputs, documented exit codes."""

import json
from pathlib import Path

import pytest

from tests.serving.conftest import incident


def as_lines(*records):
    return "".join(json.dumps(r) + "\n" for r in records)


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "export.jsonl"
    path.write_text(
        as_lines(incident("1"), incident("2", title="cart is slow", symptoms="p99 4 s"))
    )
    return path


def test_ingest_says_in_one_line_what_became_of_the_records(scarwise, exported):
    first = scarwise("ingest", str(exported))
    again = scarwise("ingest", str(exported), "--json")

    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "2 stored, 0 unchanged, 0 quarantined, 0 refused, from 1 files\n"
    view = json.loads(again.stdout)
    assert (view["stored"], view["unchanged"], view["refused"]) == (0, 2, [])


def test_a_bad_record_is_named_with_file_and_line_and_the_rest_goes_in(scarwise, exported):
    exported.write_text(exported.read_text() + '{"source": "x"}\nnot json\n')

    done = scarwise("ingest", str(exported), "--json")

    view = json.loads(done.stdout)
    assert (done.returncode, view["stored"], len(view["refused"])) == (3, 2, 2)
    assert "export.jsonl:3" in view["refused"][0]
    assert "export.jsonl:4" in view["refused"][1]
    assert done.stderr.count("refused") == 2


def test_a_path_that_is_not_there_is_one_line_and_exit_code_2(scarwise, tmp_path):
    done = scarwise("ingest", str(tmp_path / "nothing.jsonl"))

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "nothing.jsonl" in done.stderr


def test_search_and_diagnose_answer_without_a_running_service(scarwise, exported):
    scarwise("ingest", str(exported))

    found = json.loads(scarwise("search", "too many clients already", "--json").stdout)
    read = scarwise("search", "too many clients already")
    diagnosis = json.loads(scarwise("diagnose", "too many clients already", "--json").stdout)

    assert (found["degraded"], found["hits"][0]["source_id"]) == (None, "1")
    assert "orders-db refuses connections" in read.stdout
    assert diagnosis["root_cause"] == "A deploy doubled the pool size of every checkout pod."


def test_a_question_may_come_from_a_file_or_a_pipe(scarwise, exported, tmp_path):
    scarwise("ingest", str(exported))
    log = tmp_path / "log.txt"
    log.write_text("FATAL: sorry, too many clients already")

    from_file = json.loads(scarwise("search", "--file", str(log), "--json").stdout)
    piped = json.loads(scarwise("search", "--json", given=log.read_text()).stdout)
    nothing = scarwise("search", given="")

    assert from_file["hits"][0]["source_id"] == piped["hits"][0]["source_id"] == "1"
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)


def test_a_verdict_is_given_listed_and_withdrawn(scarwise, exported):
    scarwise("ingest", str(exported))
    found = json.loads(scarwise("search", "too many clients", "--json").stdout)
    one, query = found["hits"][0]["incident_id"], found["query_id"]

    given = json.loads(scarwise("feedback", "give", one, "fixed_it", "-q", query, "--json").stdout)
    outcomes = json.loads(scarwise("search", "too many clients", "--json").stdout)["hits"][0][
        "outcomes"
    ]
    withdrawn = scarwise("feedback", "withdraw", given["id"])
    left = json.loads(scarwise("feedback", "list", "--json").stdout)

    assert (given["version"], given["query_id"], outcomes) == (1, query, {"fixed_it": 1})
    assert (withdrawn.returncode, left) == (0, [])


def test_forget_asks_first_and_leaves_only_the_audit(scarwise, exported):
    scarwise("ingest", str(exported))
    one = json.loads(scarwise("incidents", "list", "--json").stdout)[0]["id"]

    asked = scarwise("incidents", "forget", one)
    done = scarwise("incidents", "forget", one, "--yes", "--reason", "asked for")
    shown = scarwise("incidents", "show", one)
    trail = json.loads(scarwise("audit", "show", one, "--json").stdout)

    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    assert (done.returncode, shown.returncode) == (0, 2)
    assert [e["act"] for e in trail] == ["incident.stored", "incident.forgotten"]


def test_audit_verify_finds_an_edited_trail(scarwise, exported, environment):
    import sqlite3

    scarwise("ingest", str(exported))
    whole = scarwise("audit", "verify", "--json")
    path = Path(environment["SCARWISE_HOME"]) / "scarwise.db"
    with sqlite3.connect(path) as connection:
        for (name,) in connection.execute(
            "select name from sqlite_master where type = 'trigger' and tbl_name = 'audit'"
        ).fetchall():
            connection.execute(f"drop trigger {name}")
        connection.execute("update audit set actor = 'somebody else' where seq = 1")

    broken = scarwise("audit", "verify", "--json")

    assert (whole.returncode, json.loads(whole.stdout)["ok"]) == (0, True)
    assert (broken.returncode, json.loads(broken.stdout)["broken_at"]) == (5, 1)


def test_a_token_is_shown_once_and_only_then(scarwise):
    made = json.loads(scarwise("token", "create", "ci", "--scope", "write", "--json").stdout)
    listed = scarwise("token", "list").stdout
    revoked = scarwise("token", "revoke", "ci")

    assert made["token"].startswith("scw_")
    assert "ci" in listed
    assert made["token"] not in listed
    assert revoked.returncode == 0


def test_a_bind_that_others_can_reach_needs_a_token_first(scarwise):
    done = scarwise("serve", "--host", "0.0.0.0", "--port", "0")

    assert (done.returncode, "token create" in done.stderr) == (2, True)


def test_index_rebuild_and_status_speak_of_the_same_vectors(scarwise, exported):
    scarwise("ingest", str(exported))

    rebuilt = json.loads(scarwise("index", "rebuild", "--json").stdout)
    status = json.loads(scarwise("index", "status", "--json").stdout)

    assert (rebuilt["vectors"], status["vectors"], status["lag"], status["copy"]) == (
        2,
        2,
        0,
        "sound",
    )


def test_doctor_finds_a_fresh_folder_fine(scarwise):
    done = scarwise("doctor", "--json")

    assert done.returncode == 0
    assert {f["check"] for f in json.loads(done.stdout)} >= {"disk", "store", "audit", "embedder"}


def test_a_data_folder_that_cannot_be_made_is_one_line(scarwise, tmp_path):
    (tmp_path / "file").write_text("")

    done = scarwise("incidents", "list", SCARWISE_HOME=str(tmp_path / "file" / "home"))

    assert (done.returncode, done.stderr.count("\n"), "SCARWISE_HOME" in done.stderr) == (
        4,
        1,
        True,
    )


def test_an_embedder_that_does_not_exist_leaves_search_by_words_and_says_so(scarwise, exported):
    scarwise("ingest", str(exported))

    done = scarwise("search", "too many clients", "--json", SCARWISE_RETRIEVAL_EMBEDDER="/no/model")

    answer = json.loads(done.stdout)
    assert answer["hits"][0]["source_id"] == "1"
    assert "retrieval.embedder" in answer["degraded"]


@pytest.mark.parametrize("words", [["nonsense"], ["search", "--limit", "many"], ["ingest"]])
def test_a_usage_error_is_exit_code_2_and_never_a_traceback(scarwise, words):
    done = scarwise(*words)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
