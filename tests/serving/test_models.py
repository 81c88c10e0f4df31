"""The registry as people and machines reach it: the commands, the API and the console's pages."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest

from ingest import audit, lessons, retrainings
from retrieval.prompt import prompt_hash
from serving.comparison import next_step
from serving.outcome import EXIT, WORDS
from serving.service import Service, open_store
from serving.settings import load
from serving.tryout import try_out
from tests.serving.browser import harmful, put, see
from tests.serving.conftest import SCARWISE, client_of, incident
from training import adapters, registry
from training.model import fingerprint
from training.registry import NotPromotable

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


def made(service, letter, **more):
    """A registered model whose files are here and sealed, and no model at all."""
    home = service.settings.home
    base = home / "bases" / "tests"
    base.mkdir(parents=True, exist_ok=True)
    (base / "config.json").write_text("{}")
    told = {
        "dataset": None,
        "base_hash": fingerprint(base),
        "prompt_hash": prompt_hash(),
        "folder": f"adapters/{letter}",
        "run_id": "run-1",
        "parent": None,
        "verdict": "pass",
        "report": {},
        "metrics": {"acc": 0.9, "bwt": -0.1},
        "actor": "job",
        **more,
    }
    sha256 = seal(home / told["folder"], letter, told["base_hash"], told["prompt_hash"])
    return registry.register(service.store, adapter_sha256=sha256, **told)


def seal(folder, letter, base_hash, prompt_hash):
    """Files that are what their manifest says, though nobody could load them."""
    folder.mkdir(parents=True)
    files = {adapters.CONFIG: "{}", adapters.WEIGHTS: letter}
    for name, content in files.items():
        (folder / name).write_text(content)
    hashes = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    told = adapters.Manifest(
        files=hashes, keys=[], base_hash=base_hash, prompt_hash=prompt_hash, dataset=None,
        parent=None, rank=8,
    )  # fmt: skip
    (folder / adapters.MANIFEST).write_text(told.model_dump_json())
    return hashes[adapters.WEIGHTS]


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
    made(cold, "a", dataset="ds-1")
    made(cold, "b", parent=1, verdict="fail", report=REPORT, metrics={"acc": 0.4})
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
        "note": None,
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
        "note": None,
    }
    assert moves(cold.store)[1:] == [("local", "model.promoted", "diag-v2", "tried by hand")]


def test_the_pointer_is_moved_by_whoever_looked_last(two):
    late = two.post("/v1/models/rollback", json={"revision": 2})
    back = two.post("/v1/models/rollback", json={"revision": 3, "reason": "worse"})
    again = two.post("/v1/models/rollback")

    assert (late.status_code, back.json()["champion"], again.status_code) == (409, None, 422)
    assert "moved to revision 3 since revision 2" in late.json()["detail"]


def test_promotion_is_frozen_and_thawed(two, cold):
    made(cold, "c")
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
    made(cold, "c")
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

    header, first, second, todo, served = table.stdout.splitlines()
    assert header.split()[:6] == ["model", "made", "is", "verdict", "acc", "dataset"]
    assert (first.split()[0], first.split()[2:5]) == ("diag-v1", ["champion", "pass", "0.900"])
    assert (second.split()[0], second.split()[2:5]) == ("diag-v2", ["challenger", "fail", "0.400"])
    assert todo == (
        "diag-v2: It is held, for something is shown to be wrong with it: see what failed. The "
        "next `scarwise retrain` makes another of what is new by then; who knows better signs for "
        "it, with --override: `scarwise promote 2 --reason ...`."
    )
    assert served == "diag-v1 is served"
    assert document["pointer"]["champion"] == 1


def test_without_a_model_the_commands_say_who_answers_and_what_makes_one(environment):
    done = run_on(environment, "models")

    assert done.stdout == (
        "no model is served: answers are quoted from precedents; `scarwise retrain` makes the "
        "first\n"
    )


def view(**more):
    told = {"version": 3, "marks": ["challenger"], "verdict": "pass", "tainted": []}
    return {**told, "promoted_at": None, **more}


@pytest.mark.parametrize(
    ("model", "frozen", "starts", "says"),
    [
        (view(), False, "It passed and waits for a person", "`scarwise promote 3 --reason ...`"),
        (view(), True, "It passed, and promotion is frozen", "`scarwise thaw`"),
        (view(promoted_at="2026-03-01"), False, "It was served and taken down", "again: "),
        (view(marks=["champion"]), False, "It is the champion", "`scarwise rollback"),
        (view(marks=["champion"], tainted=["inc-1"]), False, "It was taught what", "rollback"),
        (view(tainted=["inc-1"]), False, "It was taught what", "--override"),
        (view(verdict=None), False, "The gate has not judged it", "`scarwise retrain`"),
        (view(verdict="inconclusive"), False, "It is held, for too little", "not proven"),
        (view(verdict="fail"), False, "It is held, for something is", "see what failed"),
    ],
)
def test_of_each_model_it_is_said_what_a_person_may_do(model, frozen, starts, says):
    said = next_step(model, frozen=frozen)

    assert said.startswith(starts)
    assert says in said


def test_the_pages_say_what_to_do_with_the_commands_set_as_code(two, cold):
    made(cold, "c", report={"in_one_sentence": "diag-v3 may <b>replace</b> diag-v1."})

    one, all_, status = (see(two, path) for path in ("/models/3", "/models", "/status"))

    assert "diag-v3 may <b>replace</b> diag-v1." in one.text
    assert (
        "What to do. It passed and waits for a person: read what the gate found, then" in one.text
    )
    assert "diag-v3 : It passed and waits for a person" in all_.text
    assert "scarwise promote 3 --reason ..." in all_.words  # a word of its own: set as code
    assert "Champion diag-v1 Newest, not served diag-v3 Last turn none yet" in status.text
    assert harmful(one) == []


def test_the_status_page_says_how_the_last_turn_ended(two, cold):
    run = retrainings.begin(cold.store, actor="job", detail={})
    on = see(two, "/status").text
    retrainings.finish(cold.store, run, "inconclusive", actor="job")

    assert "Last turn got to “begun”" in on
    assert "It is running, or was cut off" in on
    assert "Too little is proved of the model it made" in see(two, "/status").text


def test_the_command_shows_the_gates_report_on_one(scarwise):
    lines = scarwise("models", "diag-v2").stdout.splitlines()

    said = "\n".join(line.rstrip() for line in lines)
    assert said.startswith("diag-v2  FAIL\n")
    assert "retention: FAILED\n  It forgot 31 of 100 <b>old</b> cases.\n  lower -0.381" in said
    assert said.index("retention: FAILED") < said.index("gain: passed")
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
        "note": None,
    }
    assert [(m[0], m[1], m[3]) for m in moves(cold.store)[1:]] == [
        ("cli", "model.promoted", "a drill"),
        ("cli", "model.rolled_back", "a drill"),
        ("cli", "models.frozen", "a drill"),
        ("cli", "models.thawed", "a drill"),
    ]


# What could not be served


@pytest.fixture
def odd(store_url, environment):
    """A service whose champion is sound, over either database, and a function that registers one
    that passed and could not be served."""
    service = Service.open(load({**environment, "SCARWISE_STORE_URL": store_url}))
    sound = made(service, "a")
    registry.promote(service.store, sound.version, actor="lead", reason="it passed")

    def register(what):
        more = {
            "another base": {"base_hash": "e" * 64},
            "another prompt": {"prompt_hash": "9" * 64},
        }
        model = made(service, "b", **more.get(what, {}))
        folder = service.settings.home / model.folder
        if what == "other files":
            (folder / adapters.WEIGHTS).write_text("other")
        if what == "no files":
            shutil.rmtree(folder)
        return model

    yield service, register
    service.close()


UNSERVABLE = {
    "another prompt": "this version asks with .*; `scarwise retrain`",
    "another base": r"e{64} that it was trained on is not in .*; run `scarwise base build`",
    "other files": "adapter_model.safetensors is not what was sealed; restore it, or retrain",
    "no files": "has no sound manifest.json",
}


@pytest.mark.parametrize("what", UNSERVABLE)
def test_what_could_not_be_served_is_not_promoted_whoever_signs(odd, what):
    service, register = odd
    model = register(what)
    before = registry.pointer(service.store)

    with client_of(service) as client:
        said = [
            client.post(f"/v1/models/{model.version}/promote", json={"reason": "x", **more})
            for more in ({}, {"override": True})
        ]

    assert [s.status_code for s in said] == [422, 422]
    for one in said:
        assert re.search(f"^diag-v2 is not promoted: .*{UNSERVABLE[what]}", one.json()["detail"])
    assert registry.pointer(service.store) == before


def test_the_command_refuses_it_too_with_what_to_do(odd, scarwise_on):
    service, register = odd
    register("another prompt")
    before = registry.pointer(service.store)

    done = scarwise_on(service, "promote", "2", "--override", "--reason", "I know better")

    assert done.returncode == 2
    assert done.stderr.startswith("scarwise: diag-v2 is not promoted: it was trained under")
    assert done.stderr.endswith("`scarwise retrain` makes one that is not\n")
    assert registry.pointer(service.store) == before


@pytest.fixture
def scarwise_on(environment):
    """The command over the store of this service."""

    def run(service, *words):
        return run_on({**environment, "SCARWISE_STORE_URL": service.settings.store_url}, *words)

    return run


def run_on(environment, *words):
    return subprocess.run(
        [SCARWISE, *words], env=environment, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def test_of_each_way_a_turn_may_end_the_status_page_has_words():
    assert EXIT.keys() - {"not due", "busy"} <= WORDS.keys()


def test_a_model_of_a_base_that_is_named_elsewhere_is_not_promoted(cold, environment, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"other": 1}')
    made(cold, "a")
    settings = load({**environment, "SCARWISE_TRAINING_BASE": str(tmp_path / "other")})

    with pytest.raises(NotPromotable, match=r"training.base names .*; set training.base back, or"):
        try_out(cold.store, settings, None, 1, signed=False)


def test_where_a_service_holds_another_base_the_promotion_says_to_restart_it(two, cold):
    (cold.settings.home / "bases" / "new").mkdir()
    (cold.settings.home / "bases" / "new" / "config.json").write_text('{"new": 1}')
    made(cold, "c", base_hash=fingerprint(cold.settings.home / "bases" / "new"))

    said = two.post("/v1/models/3/promote", json={"reason": "it passed"}).json()

    assert (said["champion"], said["note"]) == (
        3,
        "diag-v3 stands on another base than diag-v1: restart `scarwise serve`, which holds one "
        "base at a time",
    )


def test_a_rollback_passes_over_what_could_not_be_served_any_more(two, cold, scarwise):
    made(cold, "c")
    made(cold, "d")
    for version in (3, 4):
        registry.promote(cold.store, version, actor="lead", reason="it passed")
    (cold.settings.home / "adapters" / "c" / adapters.WEIGHTS).write_text("damaged")

    done = scarwise("rollback", "--reason", "worse on call")
    registry.promote(cold.store, 3, actor="lead", reason="x")
    registry.promote(cold.store, 4, actor="lead", reason="x")
    said = two.post("/v1/models/rollback").json()

    assert done.stdout == "diag-v1 is served from now on, in place of diag-v4\n"
    assert done.stderr == ("scarwise: passed over, tainted or not to be served any more: diag-v3\n")
    assert (said["champion"], said["note"]) == (1, done.stderr.removeprefix("scarwise: ").strip())
    told = [e for e in audit.entries(cold.store) if e.act == "model.rolled_back"]
    assert [json.loads(e.detail)["passed_over"] for e in told] == [[3], [3]]


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
