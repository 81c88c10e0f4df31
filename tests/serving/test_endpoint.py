"""The model at an endpoint: served, swapped, restarted, examined; and what is said of failures."""

import json
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.evidence import Rules
from eval.examination import Model, examine
from eval.replay import folder_of, kept_replay
from eval.speaking import Elsewhere, speaking
from ingest.errors import Refused
from retrieval.prompt import prompt_hash
from retrieval.search import Question
from serving import there as there_module
from serving.cli import app
from serving.doctor import findings
from serving.live import MOST_NEW_TOKENS
from serving.service import Service
from serving.settings import load
from serving.there import There, asked_base, endpoint_of
from tests.eval.frozen import store_of, suite_of
from tests.serving import tiny
from tests.serving.conftest import client_of, incident
from tests.serving.standin import Faults, Parrot, Process, StandIn, served
from training import adapters, recipe, registry
from training.model import load_base, tokenizer_in
from training.soundness import NF4

SCARWISE = Path(sys.executable).with_name("scarwise")
DEPLOY = Path(there_module.__file__).with_name("deploy")
ALERT = tiny.ALERT


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory, one_thread):
    """A data folder with a tiny base and three adapters; a test copies it."""
    return tiny.home(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def process(made):
    """The tiny base behind a server, in a process of its own."""
    running = Process(made / "bases" / "tiny", context=1_024)
    yield running
    running.close()


@pytest.fixture
def real(process):
    """The same, with nothing wrong with it and no adapter."""
    process.tell("faults")
    process.tell("forget")
    return process


@pytest.fixture
def home(environment, made):
    folder = Path(environment["SCARWISE_HOME"])
    shutil.copytree(made, folder)
    return folder


@pytest.fixture
def opened(environment, home):
    """A function that opens a service which asks the endpoint at this address."""
    with ExitStack() as stack:

        def open_it(url, **knobs):
            told = {"ENDPOINT": url, "MODEL_TIMEOUT_S": "60", **knobs}
            variables = {f"SCARWISE_SERVE_{name}": value for name, value in told.items()}
            service = Service.open(load({**environment, **variables}))
            stack.callback(service.close)
            for version in tiny.SAYS:
                tiny.register(service.store, home, version)
            return service

        yield open_it


@pytest.fixture
def parrot():
    """A stand-in in this process that says what the adapter was taught; its address is `url`."""
    with ExitStack() as stack:

        def start(port=0, **told):
            standin = StandIn(Parrot(says), **told)
            standin.url = stack.enter_context(served(standin, port))
            return standin

        yield start


def says(asked, adapter):
    from retrieval.prompt import Reply, written

    version = int(adapter.removeprefix("diag-v")) if adapter else 3
    return written(tiny.SAYS.get(version, Reply(status="novel")))


def promote(service, version):
    registry.promote(service.store, version, actor="tests", reason="to see")
    service.live.follow()


def diagnosed(service):
    return service.diagnose(Question(ALERT))


def fell_back(diagnosis):
    """Why it was answered without a model; what search by words alone says is left out."""
    _, found, why = (diagnosis.degraded or "").partition("answered without a model: ")
    return why if found else None


def ready(service):
    with client_of(service) as client:
        return client.get("/readyz").json()


def until(claim, most_s=60):
    end = time.monotonic() + most_s
    while not claim():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Serving


def test_the_champion_answers_from_the_endpoint_and_no_weights_are_loaded_here(opened, real):
    service = opened(real.url)

    promote(service, 1)

    diagnosis = diagnosed(service)
    assert diagnosis.model["name"] == "diag-v1"
    assert diagnosis.hypothesis.text == tiny.SAYS[1].cause
    assert service.live._base is None
    said = ready(service)
    assert (said["rung"], said["model"], said["endpoint"]) == ("adapter", "diag-v1", real.url)


def test_an_adapter_is_loaded_and_answers_before_questions_go_to_it_and_the_old_one_goes_last(
    opened, parrot
):
    standin = parrot()
    service = opened(standin.url)
    for version in (1, 2):
        promote(service, version)
        diagnosed(service)
    service.live._room.between(lambda: None)  # what is to be dropped was dropped

    assert standin.order == [
        "load diag-v1", "answer diag-v1", "load diag-v2", "answer diag-v2", "unload diag-v1"
    ]  # fmt: skip
    assert service.live.serving.name == "diag-v2"


def test_who_is_in_flight_is_answered_by_the_old_adapter_before_it_goes(opened, parrot):
    standin = parrot()
    service = opened(standin.url)
    promote(service, 1)
    standin.faults.slow_s = 0.3
    answers = []
    asking = threading.Thread(target=lambda: answers.append(diagnosed(service)))
    asking.start()
    until(lambda: service.live._in_flight["diag-v1"] == 1)

    promote(service, 2)

    asking.join()
    service.live._room.between(lambda: None)
    assert [a.model["name"] for a in answers] == ["diag-v1"]
    assert set(standin.adapters) == {"diag-v2"}


SWAPS = 6


def test_no_answer_fails_while_adapters_are_swapped_and_the_server_forgets_them(opened, parrot):
    standin = parrot()
    service = opened(standin.url)
    promote(service, 1)
    service.live.start()
    told, over = [], threading.Event()

    def ask_on():
        while not over.is_set():
            told.append(diagnosed(service))

    clients = [threading.Thread(target=ask_on) for _ in range(8)]
    for thread in clients:
        thread.start()
    for swap in range(SWAPS):
        version = 2 if swap % 2 == 0 else 1
        registry.promote(service.store, version, actor="tests", reason="to see")
        service.live.noticed()
        until(lambda wanted=version: service.live.serving.version == wanted)
        before = len(told)
        if swap == SWAPS // 2:
            standin.post("/standin/forget", {})
        until(lambda before=before: len(told) >= before + 8)
    over.set()
    for thread in clients:
        thread.join()
    service.live._room.between(lambda: None)

    assert [why for why in map(fell_back, told) if why] == []
    assert {(d.model["version"], d.hypothesis.text) for d in told} == {
        ("1", tiny.SAYS[1].cause),
        ("2", tiny.SAYS[2].cause),
    }
    assert set(standin.adapters) == {"diag-v1"}


def test_a_real_model_is_swapped_and_loaded_again_after_it_was_forgotten(opened, real):
    service = opened(real.url)
    promote(service, 1)
    real.tell("forget")

    first = diagnosed(service)
    promote(service, 2)
    second = diagnosed(service)

    assert [d.model["name"] for d in (first, second)] == ["diag-v1", "diag-v2"]
    assert second.hypothesis.text == tiny.SAYS[2].cause


def test_a_server_that_goes_away_costs_the_model_and_one_that_comes_back_is_asked_again(
    opened, parrot
):
    port = free_port()
    with served(StandIn(Parrot(says)), port) as url:
        service = opened(url, ENDPOINT_RETRIES="0")
        service.live.there._rest_s = 0.0
        promote(service, 1)
        assert diagnosed(service).model

    during = diagnosed(service)
    said = ready(service)
    again = parrot(port)

    assert during.model is None
    assert "is not reached" in fell_back(during)
    assert (said["status"], said["model"]) == ("degraded", "diag-v1")
    assert "is not reached" in said["why"]
    assert diagnosed(service).model["name"] == "diag-v1"
    assert list(again.adapters) == ["diag-v1"]
    assert ready(service)["why"] is None or "reached" not in ready(service)["why"]


def test_a_server_that_was_not_reached_is_left_alone_for_a_moment(opened, parrot):
    standin = parrot()
    service = opened(standin.url, ENDPOINT_RETRIES="0")
    promote(service, 1)
    standin.faults.fail = [503] * 9
    asked = standin.calls["/v1/chat/completions"]

    whys = [fell_back(diagnosed(service)) for _ in range(3)]

    assert standin.calls["/v1/chat/completions"] == asked + 1
    assert whys[0].endswith("answers 503")
    assert whys[1].endswith("answers 503; it is asked again in a moment")


def test_promise_9_no_answer_waits_on_an_endpoint(opened, parrot):
    standin = parrot()
    service = opened(standin.url)
    promote(service, 1)
    service.live.timeout_s = 0.05
    standin.faults.slow_s = 0.5

    diagnosis = diagnosed(service)

    assert fell_back(diagnosis) == "the model took longer than 0.05 s"
    assert service.live.fallbacks["timeout"] == 1


def test_a_crowd_is_turned_away_rather_than_queued(opened, parrot):
    from serving.waiting import MOST_WAITING

    standin = parrot()
    service = opened(standin.url)
    promote(service, 1)
    standin.faults.slow_s = 0.5
    said = []
    crowd = [
        threading.Thread(target=lambda: said.append(fell_back(diagnosed(service))))
        for _ in range(MOST_WAITING + 4)
    ]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()

    assert Counter(why is None for why in said) == {True: MOST_WAITING, False: 4}


def test_an_answer_in_no_agreed_form_is_not_used(opened, parrot):
    standin = parrot()
    service = opened(standin.url)
    promote(service, 1)
    standin.faults.garbage = "Well, let me think."

    assert fell_back(diagnosed(service)).startswith("the model's answer is not in the agreed form")


def test_an_adapter_that_the_server_does_not_take_leaves_the_old_one_serving(opened, parrot):
    standin = parrot()
    service = opened(standin.url)
    promote(service, 1)
    standin.faults.most_rank = 4

    promote(service, 2)

    said = ready(service)
    assert said["model"] == "diag-v1"
    assert "diag-v2 is not served" in said["why"]
    assert "rank 8, which --max-lora-rank must allow" in said["why"]
    assert diagnosed(service).model["name"] == "diag-v1"


def test_an_adapter_that_was_changed_here_is_not_sent_there(opened, parrot, home):
    standin = parrot()
    service = opened(standin.url)
    path = home / "adapters" / "diag-v1" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    promote(service, 1)

    assert "not what was sealed" in service.live.why
    assert standin.order == []


def test_an_adapter_of_another_base_than_the_one_that_is_taken_to_be_there_is_refused(
    opened, parrot, made, tmp_path
):
    standin = parrot()
    other = shutil.copytree(made / "bases" / "tiny", tmp_path / "other")
    (other / "merges.txt").write_text("another")
    service = opened(standin.url)
    there = service.live.there
    knobs = service.settings.training.model_copy(update={"base": str(other)})
    settings = service.settings.model_copy(update={"training": knobs})
    there._base_hash = lambda: there_module.base_taken_for(settings)

    promote(service, 1)

    assert "for which the endpoint's is taken" in service.live.why
    assert standin.order == []


@pytest.fixture
def four_bit(made, tmp_path):
    """A function that registers an adapter which was trained on the base in four bits."""

    def register(service, **told):
        folder = service.settings.home / "adapters" / "diag-v4"
        adapters.interpolated(made / "adapters" / "diag-v2", None, 0.9, folder)
        held = load_hash(made) + NF4
        adapters.seal(folder, base_hash=held, prompt_hash=prompt_hash(), dataset=None, parent=None)
        return tiny.register(service.store, service.settings.home, 4, **told)

    return register


JUDGED = [
    ({}, False),
    ({"report": {"measured_on": {"answered_by": "the model loaded here"}}}, False),
    ({"report": {"measured_on": {"answered_by": "vllm another-model"}}}, False),
    ({"report": {"measured_on": {"answered_by": "vllm base-model"}}}, True),
]


@pytest.mark.parametrize(("told", "is_taken"), JUDGED, ids=["no", "here", "elsewhere", "there"])
def test_what_was_judged_in_four_bits_is_served_from_where_it_was_judged(
    opened, parrot, four_bit, told, is_taken
):
    standin = parrot()
    service = opened(standin.url)
    model = four_bit(service, **told)

    with client_of(service) as client:
        said = client.post(f"/v1/models/{model.version}/promote", json={"reason": "it passed"})

    assert ("load diag-v4" in standin.order) is is_taken
    assert (said.status_code, registry.pointer(service.store).champion) == (
        (200, model.version) if is_taken else (422, None)
    )
    if not is_taken:
        assert "what was judged would not be what is served" in said.json()["detail"]
        assert "serve.endpoint_evaluates = true, `scarwise retrain`" in said.json()["detail"]


def test_the_gates_report_says_who_answered(suite, made, parrot, tmp_path):
    place = there_module.Place(parrot().url, adapters=str(made / "adapters"))
    endpoint = there_module.Endpoint(place)
    there = Elsewhere.found(endpoint, load_hash(made), None)

    found = examined(replace(suite, cases=suite.cases[:4]), there, made, tmp_path / "evals")

    assert found.report["measured_on"]["answered_by"] == "vllm base-model"
    endpoint.close()


# Promotion and rollback


def ran(environment, url, *words):
    """A command, in this process."""
    variables = {**environment, "SCARWISE_SERVE_ENDPOINT": url}
    return CliRunner().invoke(app, words, env=variables, catch_exceptions=False)


def scarwise(environment, url, *words):
    """The same in a process of its own, so that its errors are told as they are to a person."""
    return subprocess.run(
        [SCARWISE, *words],
        env={**environment, "SCARWISE_SERVE_ENDPOINT": url},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_promotion_has_the_adapter_loaded_and_answer_first(opened, parrot, environment):
    standin = parrot()
    service = opened(standin.url)

    done = ran(environment, standin.url, "promote", "1", "--reason", "passed")

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "diag-v1 is served from now on, in place of the base\n"
    assert standin.order == ["load diag-v1", "answer diag-v1"]
    service.live.follow()
    assert standin.order.count("load diag-v1") == 1
    shown = ran(environment, standin.url, "models")
    assert f"diag-v1 is served by {standin.url}" in shown.stdout


def test_a_promotion_of_what_the_endpoint_does_not_take_is_refused(opened, parrot, environment):
    standin = parrot(faults=Faults(most_rank=4))
    service = opened(standin.url)

    done = scarwise(environment, standin.url, "promote", "1", "--reason", "passed")
    with client_of(service) as client:
        said = client.post("/v1/models/1/promote", json={"reason": "passed"})

    assert (done.returncode, said.status_code) == (2, 422)
    for words in (done.stderr, said.json()["detail"]):
        assert "does not take diag-v1: LoRA rank 8 is greater than max_lora_rank 4" in words
    assert registry.pointer(service.store).champion is None


def test_a_promotion_while_the_endpoint_is_down_stands_and_is_served_when_it_is_back(
    opened, parrot, environment
):
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    service = opened(url, ENDPOINT_RETRIES="0")

    done = ran(environment, url, "promote", "1", "--reason", "passed")
    service.live.follow()
    down = ready(service), diagnosed(service)
    standin = parrot(port)
    service.live._refused = None  # the wait until it is tried again is over
    service.live.follow()

    assert done.exit_code == 0
    assert done.stdout == "diag-v1 is the champion from now on, in place of the base\n"
    assert "is not reached" in done.stderr
    assert (down[0]["status"], down[0]["model"]) == ("degraded", None)
    assert "diag-v1 is not served: " in down[0]["why"]
    assert down[1].model is None
    assert diagnosed(service).model["name"] == "diag-v1"
    assert standin.order[0] == "load diag-v1"


def test_a_rollback_needs_no_endpoint(opened, environment):
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with served(StandIn(Parrot(says)), port):
        service = opened(url, ENDPOINT_RETRIES="0")
        promote(service, 1)
        promote(service, 2)

    done = ran(environment, url, "rollback", "--reason", "worse")
    with served(StandIn(Parrot(says)), port):
        service.live.follow()
        diagnosis = diagnosed(service)

    assert done.exit_code == 0
    assert diagnosis.model["name"] == "diag-v1"


# Evaluation


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A frozen suite, and of its many cases a few of each kind."""
    folder = tmp_path_factory.mktemp("suite")
    store = store_of(folder)
    whole = suite_of(store, folder / "suite")
    store.close()
    kinds = Counter()
    few = []
    for case in whole.cases:
        kinds[case.cohort] += 1
        if kinds[case.cohort] <= (1 if case.cohort == "canary" else 3):
            few.append(case)
    return replace(whole, cases=tuple(few))


def examined(suite, base, home, evals):
    return examine(
        suite, base=base, challenger=Model.of("diag-v2", home / "adapters" / "diag-v2"),
        champion=None, rows=[], newest="era 0", past=[], evals=evals, rules=Rules(),
    )  # fmt: skip


def test_the_endpoint_answers_an_examination_as_the_same_model_does_here(
    opened, real, suite, made, tmp_path
):
    settings = opened(real.url).settings
    here = load_base(str(made / "bases" / "tiny"), device="cpu")
    tokenizer = tokenizer_in(made / "bases" / "tiny")
    # A canary's rank takes hundreds of likelihoods, each of which is told as the others are.
    suite = replace(suite, cases=tuple(c for c in suite.cases if c.cohort != "canary"))

    first = examined(suite, here, made, tmp_path / "here")
    with asked_base(settings, here.base_hash, tokenizer) as there:
        second = examined(suite, there, made, tmp_path / "there")

    kept = [kept_replay(folder_of(tmp_path / p, "diag-v2", suite.name)) for p in ("here", "there")]
    fits = {  # here the middle of the ids is cut, there that of the text
        (case.id, arm)
        for case in suite.cases
        for arm, asked in case.asked.items()
        if len(asked.user) < 700
    }
    told = [
        {(p.case, p.arm): (p.text, p.scores.get("right"))
         for p in t.predictions if (p.case, p.arm) in fits}
        for t in kept
    ]  # fmt: skip
    surprises = [
        {(p.case, p.arm): p.scores[name] for p in t.predictions
         if (p.case, p.arm) in fits for name in ("nll", "exposure_bits") if p.scores.get(name)}
        for t in kept
    ]  # fmt: skip
    assert len(told[0]) > 15
    assert told[1] == told[0]
    assert surprises[1] == pytest.approx(surprises[0], rel=1e-3)
    assert len(surprises[0]) > 3
    assert first.verdict.outcome == second.verdict.outcome
    assert kept[1].header.decode == {
        "max_new_tokens": 96, "constrained": True, "endpoint": "vllm base-model",
        "likelihoods": True,
    }  # fmt: skip
    assert real.seen()["adapters"] == {}  # what was loaded to be asked was let go


def test_without_likelihoods_the_gate_passes_nothing_and_says_why(suite, made, parrot, tmp_path):
    standin = parrot(kind="llama.cpp", adapters=["diag-v2"])
    place = there_module.Place(standin.url)
    endpoint = there_module.Endpoint(place)
    there = Elsewhere.found(endpoint, load_hash(made), tokenizer=object())

    found = examined(suite, there, made, tmp_path / "evals")

    [canaries] = [f for f in found.verdict.findings if f.check == "canaries"]
    assert canaries.ruling == "inconclusive"
    assert "llama.cpp base-model tells no likelihoods" in canaries.words
    assert found.verdict.outcome != "pass"
    endpoint.close()


def load_hash(made):
    from training.model import fingerprint

    return fingerprint(made / "bases" / "tiny")


def test_an_adapter_that_is_served_stays_when_it_was_examined(made, parrot):
    standin = parrot()
    place = there_module.Place(standin.url, adapters=str(made / "adapters"))
    endpoint = there_module.Endpoint(place)
    there = Elsewhere.found(endpoint, load_hash(made), None)
    endpoint.take("diag-v1", made / "adapters" / "diag-v1")

    for name in ("diag-v1", "diag-v2"):
        with speaking(there, name, made / "adapters" / name) as speaker:
            assert speaker.nll is None

    assert set(standin.adapters) == {"diag-v1"}
    endpoint.close()


def test_scarwise_eval_asks_the_endpoint(opened, parrot, environment, home, tmp_path):
    standin = parrot(kind="llama.cpp", adapters=["diag-v1"])
    opened(standin.url)
    store = store_of(tmp_path)
    suite_of(store, home / "suite")
    store.close()

    done = ran(environment, standin.url, "eval", "diag-v1", "--json")

    said = json.loads(done.stdout)
    assert (said["model"], said["decode"]["endpoint"]) == ("diag-v1", "llama.cpp base-model")
    assert standin.answered["diag-v1"] > 100
    assert 1 < standin.most_at_once <= 8


def test_with_endpoint_evaluates_off_the_gate_loads_the_base_here(opened, parrot):
    settings = opened(parrot().url, ENDPOINT_EVALUATES="false").settings

    with asked_base(settings, "b" * 16, None) as there:
        assert there is None


# What is said of it


def look(service):
    words_only = service.settings.retrieval.model_copy(update={"embedder": "/no/model"})
    settings = service.settings.model_copy(update={"retrieval": words_only})
    found = {f.check: f for f in findings(settings)}
    return {check: (f.ok, f.found, f.do) for check, f in found.items() if
            check == "endpoint" or check.endswith(" there")}  # fmt: skip


def test_the_doctor_looks_at_all_that_an_endpoint_must_do(opened, parrot):
    standin = parrot()
    service = opened(standin.url)

    assert look(service) == {
        "endpoint": (True, f"vllm at {standin.url} serves base-model", ""),
        "adapters there": (True, "no adapter there", ""),
        "form there": (True, "answers are held to the agreed form", ""),
        "likelihoods there": (True, "likelihoods are told", ""),
    }
    assert standin.order == ["answer base-model"]


def test_the_doctor_says_what_to_switch_on(opened, parrot):
    vllm = opened(parrot(faults=Faults(loads=False, refuses_form=True)).url)
    llama = opened(parrot(kind="llama.cpp").url)

    assert "--enable-lora" in look(vllm)["adapters there"][2]
    assert not look(vllm)["form there"][0]
    assert "--lora-init-without-apply" in look(llama)["adapters there"][2]
    assert "endpoint_evaluates = false" in look(llama)["likelihoods there"][2]


def test_the_doctor_finds_nobody_there(opened):
    service = opened(f"http://127.0.0.1:{free_port()}/v1", ENDPOINT_RETRIES="0")

    ok, found, todo = look(service)["endpoint"]

    assert not ok
    assert "is not reached" in found
    assert "quoted" in todo


def test_an_address_or_a_key_in_the_wrong_place_is_refused_and_not_shown(environment):
    home = Path(environment["SCARWISE_HOME"])
    home.mkdir()
    (home / "scarwise.toml").write_text('[serve]\nendpoint_key = "sk-secret"\n')
    with pytest.raises(Refused, match="set SCARWISE_SERVE_ENDPOINT_KEY instead") as in_the_file:
        load(environment)
    (home / "scarwise.toml").unlink()
    url = "http://me:sk-secret@gpu-1/v1"
    with pytest.raises(Refused, match="holds a password") as in_the_url:
        load({**environment, "SCARWISE_SERVE_ENDPOINT": url})

    for refusal in (in_the_file, in_the_url):
        assert "sk-secret" not in str(refusal.value)


def test_the_settings_say_where_and_how_and_hide_the_key(environment):
    from serving.settings import as_toml

    told = {
        "SCARWISE_SERVE_ENDPOINT": "http://gpu-1:8000/v1/",
        "SCARWISE_SERVE_ENDPOINT_KEY": "sk-secret",
        "SCARWISE_SERVE_ENDPOINT_ADAPTERS": "/adapters",
    }
    settings = load({**environment, **told})

    place = endpoint_of(settings).place
    assert (place.url, place.adapters, place.key) == (
        "http://gpu-1:8000/v1", "/adapters", "sk-secret"
    )  # fmt: skip
    assert "sk-secret" not in as_toml(settings) + repr(settings) + repr(place)
    assert There.of(load(environment), MOST_NEW_TOKENS) is None


def test_a_question_over_http_names_the_model_at_the_endpoint(opened, parrot):
    service = opened(parrot().url)
    with client_of(service) as client:
        client.post("/v1/incidents", json=incident())
        promote(service, 2)
        said = client.post("/v1/diagnose", json={"text": ALERT}).json()

    assert said["model"]["name"] == "diag-v2"


# What is shipped to run one


def test_the_unit_of_vllm_switches_on_what_an_endpoint_needs():
    text = (DEPLOY / "vllm" / "vllm.service").read_text().replace("\\\n", "")
    told = dict(line.partition("=")[::2] for line in text.splitlines() if line[:1] not in "#[")
    words = shlex.split(told["ExecStart"])
    readme = (DEPLOY / "README.md").read_text()
    named = dict(line.partition("=")[::2] for line in readme.splitlines() if "SERVE_ENDPOINT" in
                 line and line.startswith("SCARWISE_"))  # fmt: skip

    assert text.startswith("# ")
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in text
    assert "--enable-lora" in words
    assert int(words[words.index("--max-lora-rank") + 1]) >= recipe.read("lora").rank
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert json.loads(words[words.index("--structured-outputs-config") + 1])["backend"]
    place = endpoint_of(load({"SCARWISE_HOME": "/var/lib/scarwise", **named})).place
    assert place.base == words[words.index("--served-model-name") + 1]
    assert f"{words[words.index('--port') + 1]}/v1" in place.url
    assert told["BindReadOnlyPaths"] == f"/var/lib/scarwise/adapters:{place.adapters}"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit_of_vllm(tmp_path):
    text = (DEPLOY / "vllm" / "vllm.service").read_text()
    told = text.replace("/opt/vllm/.venv/bin/vllm", sys.executable)
    (tmp_path / "vllm.service").write_text(told)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "vllm.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, [x for x in done.stderr.splitlines() if "vllm" in x]) == (0, [])
