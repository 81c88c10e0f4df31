"""The registry as people and machines reach it: the commands, the API and the console's pages."""

import json

import pytest

from ingest import audit, lessons
from serving.service import Service, open_store
from serving.settings import load
from tests.serving.browser import harmful, put, see
from tests.serving.conftest import incident
from training import registry

REPORT = {
    "outcome": "fail",
    "challenger": "diag-v2",
    "champion": "diag-v1",
    "findings": [
        {
            "check": "gain",
            "ruling": "pass",
            "words": "It learned.",
            "rule": "p < .05",
            "numbers": {},
        },
        {
            "check": "retention",
            "ruling": "fail",
            "words": "It forgot 31 of 100 <b>old</b> cases.",
            "rule": "lower bound > -0.05",
            "numbers": {"lower": -0.3812, "n": 100},
        },
    ],
}


def made(store, sha256, **more):
    told = {
        "dataset": None,
        "base_hash": "b" * 64,
        "prompt_hash": "p" * 64,
        "adapter_sha256": sha256 * 64,
        "folder": "adapters/x",
        "run_id": "run-1",
        "parent": None,
        "verdict": "pass",
        "report": {},
        "metrics": {"acc": 0.9, "bwt": -0.1},
        "actor": "job",
    }
    return registry.register(store, **{**told, **more})


def export(store, name, *ids):
    with store.transaction("job") as writing:
        lessons.register_dataset(writing, name, {}, [(id, 1) for id in ids])


def moves(store):
    """What was done with the pointer: who, what, on which model, why."""
    told = [(e.actor, e.act, e.subject, json.loads(e.detail)) for e in audit.entries(store)]
    return [(*t[:3], t[3]["reason"]) for t in told if t[1].startswith("model") and "reason" in t[3]]


@pytest.fixture
def two(client, cold):
    """The API over a store with a champion that passed, and a challenger that failed."""
    [id] = put(client, incident())
    export(cold.store, "ds-1", id)
    made(cold.store, "a", dataset="ds-1")
    made(cold.store, "b", parent=1, verdict="fail", report=REPORT, metrics={"acc": 0.4})
    registry.promote(cold.store, 1, actor="lead", reason="it passed")
    return client


@pytest.fixture
def scarwise(scarwise, two):
    return scarwise


def test_the_models_are_listed_with_the_pointer(two):
    said = two.get("/v1/models").json()

    assert said["pointer"] == {
        "champion": 1,
        "previous": None,
        "challenger": 2,
        "frozen": False,
        "revision": 3,
        "changed": False,
    }
    assert [(m["name"], m["marks"], m["verdict"]) for m in said["models"]] == [
        ("diag-v1", ["champion"], "pass"),
        ("diag-v2", ["challenger"], "fail"),
    ]
    assert said["models"][0]["dataset"] == "ds-1"
    assert (said["models"][1]["parent"], said["models"][1]["metrics"]) == (1, {"acc": 0.4})


@pytest.mark.parametrize("name", ["2", "diag-v2"])
def test_one_model_is_shown_with_the_gates_report_and_its_trail(two, name):
    said = two.get(f"/v1/models/{name}").json()

    assert (said["version"], said["report"]) == (2, REPORT)
    assert [(a["act"], a["detail"]["verdict"]) for a in said["acts"]] == [
        ("model.registered", "fail")
    ]


@pytest.mark.parametrize("name", ["9", "diag-v9", "latest", "0"])
def test_a_model_that_is_not_here_is_a_problem(two, name):
    for response in (two.get(f"/v1/models/{name}"), two.post(f"/v1/models/{name}/promote")):
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


def test_what_the_gate_failed_is_promoted_only_when_somebody_signs_for_it(two, cold):
    refused = two.post("/v1/models/2/promote", json={"reason": "now"})
    unsigned = two.post("/v1/models/2/promote", json={"override": True})
    signed = two.post("/v1/models/2/promote", json={"override": True, "reason": "tried by hand"})

    assert [r.status_code for r in (refused, unsigned, signed)] == [422, 422, 200]
    assert "was judged fail by the gate" in refused.json()["detail"]
    assert signed.json() == {
        "champion": 2,
        "previous": 1,
        "challenger": None,
        "frozen": False,
        "revision": 4,
        "changed": True,
    }
    assert moves(cold.store)[1:] == [("local", "model.promoted", "diag-v2", "tried by hand")]


def test_the_pointer_is_moved_by_whoever_looked_last(two):
    late = two.post("/v1/models/rollback", json={"revision": 2})
    back = two.post("/v1/models/rollback", json={"revision": 3, "reason": "worse"})
    again = two.post("/v1/models/rollback")

    assert (late.status_code, back.json()["champion"], again.status_code) == (409, None, 422)
    assert "moved to revision 3 since revision 2" in late.json()["detail"]


def test_promotion_is_frozen_and_thawed(two, cold):
    made(cold.store, "c")
    frozen = two.post("/v1/models/freeze", json={"reason": "audit week"})
    again = two.post("/v1/models/freeze")
    refused = two.post("/v1/models/3/promote")
    thawed = two.post("/v1/models/thaw")
    promoted = two.post("/v1/models/3/promote")

    assert (frozen.json()["frozen"], frozen.json()["changed"]) == (True, True)
    assert again.json() == {**frozen.json(), "changed": False}
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:scarwise:problem:conflict")
    assert (thawed.json()["frozen"], promoted.json()["champion"]) == (False, 3)
    assert [act for _, act, _, _ in moves(cold.store)][1:] == [
        "models.frozen",
        "models.thawed",
        "model.promoted",
    ]


def test_a_move_under_an_idempotency_key_is_made_once(two, cold):
    made(cold.store, "c")
    key = {"Idempotency-Key": "k-1"}

    first = two.post("/v1/models/3/promote", json={"reason": "x"}, headers=key)
    two.post("/v1/models/rollback")
    again = two.post("/v1/models/3/promote", json={"reason": "x"}, headers=key)
    other = two.post("/v1/models/3/promote", json={"reason": "y"}, headers=key)

    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    assert (other.status_code, registry.pointer(cold.store).champion) == (409, 1)


def test_a_body_that_is_not_expected_is_a_problem_that_names_the_field(two):
    response = two.post("/v1/models/rollback", json={"override": True})

    assert (response.status_code, response.json()["faults"][0]["field"]) == (422, "override")


def test_only_an_admin_moves_the_pointer_and_anybody_who_reads_sees_it(two, cold):
    from ingest import access

    secrets = {s: access.create(cold.store, s, [s], actor="test") for s in ("write", "admin")}
    write, admin = ({"Authorization": f"Bearer {secrets[s]}"} for s in ("write", "admin"))

    assert two.get("/v1/models").status_code == 401
    assert two.get("/v1/models", headers=write).status_code == 200
    for path in ("2/promote", "rollback", "freeze", "thaw"):
        assert two.post(f"/v1/models/{path}", headers=write).status_code == 403
    assert two.post("/v1/models/rollback", headers=admin).status_code == 200
    assert moves(cold.store)[-1][0] == "token:admin"


def test_the_contract_holds_the_registry(two):
    document = two.get("/openapi.json").json()

    paths = {p: sorted(c) for p, c in document["paths"].items() if p.startswith("/v1/models")}
    assert paths == {
        "/v1/models": ["get"],
        "/v1/models/{version}": ["get"],
        "/v1/models/{version}/incidents": ["get"],
        "/v1/models/{version}/promote": ["post"],
        "/v1/models/rollback": ["post"],
        "/v1/models/freeze": ["post"],
        "/v1/models/thaw": ["post"],
    }
    assert {"Decision", "Promotion", "ModelWhole"} <= document["components"]["schemas"].keys()


def test_an_incident_tells_what_it_taught_and_forgetting_it_taints_that(two, cold):
    [id] = [s.incident.id for s in cold.store.page()]
    folder = cold.settings.datasets / "ds-1"
    folder.mkdir(parents=True)
    (folder / "rows.parquet").write_text("too many clients")

    lineage = two.get(f"/v1/incidents/{id}").json()["lineage"]
    page = see(two, f"/incidents/{id}")
    two.request("DELETE", f"/v1/incidents/{id}", json={"reason": "asked to"})

    assert (lineage["datasets"], lineage["adapters"]) == (["ds-1"], ["diag-v1", "diag-v2"])
    assert "/models/diag-v2" in [a.get("href") for _, a in page.elements]
    assert [m["tainted"] for m in two.get("/v1/models").json()["models"]] == [[id], [id]]
    assert not folder.exists()


def test_a_service_that_starts_deletes_what_was_withdrawn_before_it_was_killed(two, cold):
    [id] = [s.incident.id for s in cold.store.page()]
    folder = cold.settings.datasets / "ds-1"
    folder.mkdir(parents=True)
    cold.store.forget(id, actor="lead", reason="asked to")

    Service.open(cold.settings).close()

    assert not folder.exists()


def test_the_console_lays_the_models_side_by_side_and_marks_the_champion(two):
    page = see(two, "/models")

    assert "diag-v1 is the champion" in page.text
    assert "diag-v2 challenger fail acc 0.400 on diag-v1" in page.text
    assert "/models" in [a["href"] for t, a in page.elements if a.get("aria-current") == "page"]


def test_the_console_shows_the_gates_findings_with_what_holds_a_model_first(two):
    page = see(two, "/models/2")

    assert harmful(page) == []
    assert "b" not in {t for t, _ in page.elements}
    held = page.text.index("It forgot 31 of 100 <b>old</b> cases. Rule: lower bound > -0.05")
    assert held < page.text.index("It learned.")
    assert "lower -0.381 n 100" in page.text
    assert sum(t == "h1" for t, _ in page.elements) == 1


@pytest.mark.parametrize("report", [{}, {"findings": None}, {"findings": ["x", {"numbers": 3}]}])
def test_a_report_of_another_shape_is_no_fault_of_the_page(two, cold, report):
    registry.judge(cold.store, 2, verdict="fail", report=report, metrics={"x": "y"}, actor="job")

    assert see(two, "/models/2").text
    assert see(two, "/models").text


def test_a_model_that_is_not_here_has_no_page(two):
    assert two.get("/models/9").status_code == 404


def test_the_console_says_while_promotion_is_frozen_or_a_model_is_tainted(two, cold):
    [id] = [s.incident.id for s in cold.store.page()]
    cold.store.forget(id, actor="lead", reason="asked to")
    registry.freeze(cold.store, actor="lead", reason="audit week")

    assert "Frozen. Nothing is promoted" in see(two, "/models").text
    assert f"Tainted. It was taught what was forgotten since: {id}" in see(two, "/models/1").text


def test_the_command_compares_the_models(scarwise):
    table = scarwise("models")
    document = json.loads(scarwise("models", "--json").stdout)

    header, first, second, served = table.stdout.splitlines()
    assert header.split()[:6] == ["model", "made", "is", "verdict", "acc", "dataset"]
    assert (first.split()[0], first.split()[2:5]) == ("diag-v1", ["champion", "pass", "0.900"])
    assert (second.split()[0], second.split()[2:5]) == ("diag-v2", ["challenger", "fail", "0.400"])
    assert served == "diag-v1 is served"
    assert document["pointer"]["champion"] == 1


def test_the_command_shows_the_gates_report_on_one(scarwise):
    lines = scarwise("models", "diag-v2").stdout.splitlines()

    said = "\n".join(line.rstrip() for line in lines)
    assert said.startswith("diag-v2  FAIL\n")
    assert "retention: FAILED\n  It forgot 31 of 100 <b>old</b> cases.\n  lower -0.381" in said
    assert said.index("retention: FAILED") < said.index("gain: held")
    assert scarwise("models", "9").stderr == (
        "scarwise: there is no model diag-v9 here; `scarwise models` lists them\n"
    )


def test_the_commands_move_the_pointer_and_say_so_in_one_line(scarwise, cold):
    said = [
        scarwise(*words.split(), "--reason", "a drill")
        for words in (
            "promote 1",
            "promote 2",
            "promote 2 --override",
            "rollback",
            "freeze",
            "thaw --json",
        )
    ]

    assert [(run.returncode, (run.stdout or run.stderr).strip()) for run in said[:-1]] == [
        (0, "diag-v1 is the champion already; nothing changed"),
        (
            2,
            "scarwise: diag-v2 was judged fail by the gate; a person may sign for it with "
            "--override and a reason",
        ),
        (0, "diag-v2 is served from now on, in place of diag-v1"),
        (0, "diag-v1 is served from now on, in place of diag-v2"),
        (0, "frozen: nothing is promoted until `scarwise thaw`"),
    ]
    assert json.loads(said[-1].stdout) == {
        "champion": 1,
        "previous": None,
        "challenger": None,
        "frozen": False,
        "revision": 7,
        "changed": True,
    }
    assert [(m[0], m[1], m[3]) for m in moves(cold.store)[1:]] == [
        ("cli", "model.promoted", "a drill"),
        ("cli", "model.rolled_back", "a drill"),
        ("cli", "models.frozen", "a drill"),
        ("cli", "models.thawed", "a drill"),
    ]


def test_the_command_that_forgets_says_what_is_tainted_and_deletes_the_datasets(
    scarwise, environment
):
    settings = load(environment)
    store = open_store(settings)
    [id] = [s.incident.id for s in store.page()]
    store.close()
    folder = settings.datasets / "ds-1"
    folder.mkdir(parents=True)

    said = scarwise("incidents", "forget", id, "--yes").stdout

    assert said == f"{id} forgotten; tainted, because it taught them: diag-v1, diag-v2\n"
    assert not folder.exists()
