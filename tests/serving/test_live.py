"""The served model: it follows the champion, is swapped under load, and is refused when unsound."""

import http.client
import json
import shutil
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from retrieval.search import Question
from serving.app import create_app
from serving.cli import app
from serving.service import Service
from serving.settings import load
from tests.serving import tiny
from tests.serving.browser import asked, see
from tests.serving.conftest import client_of, incident
from training import adapters, registry

ALERT = tiny.ALERT


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory, one_thread):
    """A data folder with a tiny base and three adapters; a test copies it."""
    return tiny.home(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def home(environment, made):
    folder = Path(environment["SCARWISE_HOME"])
    shutil.copytree(made, folder)
    return folder


@pytest.fixture
def service(environment, home):
    """A service that compares by words only, over a store with three models and no champion."""
    service = Service.open(load({**environment, "SCARWISE_SERVE_MODEL_TIMEOUT_S": "60"}))
    for version in tiny.SAYS:
        tiny.register(service.store, home, version)
    yield service
    service.close()


def promote(service, version):
    registry.promote(service.store, version, actor="tests", reason="to see")
    service.live.follow()


def diagnosed(service, **more):
    return service.diagnose(Question(ALERT, **more))


def fell_back(diagnosis):
    """Why it was answered without a model; what search by words alone says is left out."""
    _, found, why = (diagnosis.degraded or "").partition("answered without a model: ")
    return why if found else None


def metric(service, name):
    with client_of(service) as client:
        lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


def ready(service):
    with client_of(service) as client:
        return client.get("/readyz").json()


def test_without_a_champion_no_model_is_loaded_and_the_answer_is_extracted(service):
    service.live.follow()

    diagnosis = diagnosed(service)

    assert (diagnosis.model, fell_back(diagnosis), service.live._base) == (None, None, None)
    assert ready(service)["model"] is None


def test_the_champion_answers_and_the_answer_names_it(service):
    promote(service, 1)

    diagnosis = diagnosed(service)

    model = registry.get(service.store, 1)
    assert diagnosis.model == {
        "name": "diag-v1",
        "version": "1",
        "dataset": "none",
        "base_hash": model.base_hash,
        "prompt_hash": model.prompt_hash,
        "adapter_sha256": model.adapter_sha256,
    }
    assert diagnosis.hypothesis.text == tiny.SAYS[1].cause
    assert diagnosis.hypothesis.fix == tiny.SAYS[1].fix
    assert (ready(service)["rung"], ready(service)["model"]) == ("adapter", "diag-v1")
    assert metric(service, "scarwise_model_version") == 1
    assert metric(service, "scarwise_model_answers_total") == 1


def test_the_console_and_the_terminal_set_the_models_own_words_apart(service, capsys):
    from serving.terminal import console, show_diagnosis

    promote(service, 1)
    with client_of(service) as client:
        page = asked(client, ALERT)
        status = see(client, "/status")
    show_diagnosis(console(), diagnosed(service).model_dump(mode="json"))

    said = capsys.readouterr().out
    assert "Hypothesis" in page.text
    for shown in (page.text, said):
        assert tiny.SAYS[1].cause in shown
        assert f"“{tiny.SAYS[1].cause}”" not in shown
        assert "no precedent shown states it" in shown
        assert "diag-v1" in shown
    assert "diag-v1" in status.text


def test_a_cause_that_a_precedent_states_is_quoted_from_it(service):
    with client_of(service) as client:
        client.post("/v1/incidents", json=incident(root_cause=tiny.SAYS[2].cause))
        client.post("/v1/incidents", json=incident("2", root_cause="The pool was far too small."))
    promote(service, 2)

    diagnosis = diagnosed(service)

    assert diagnosis.causes[0].quote == tiny.SAYS[2].cause
    assert [c.source_id for c in diagnosis.citations] == ["1"]
    assert diagnosis.hypothesis.words.startswith("a precedent states the cause")


def test_a_question_about_the_past_is_not_asked_of_a_model_that_learned_since(service):
    promote(service, 1)
    now = datetime.now(UTC)

    assert diagnosed(service, as_of=now - timedelta(days=1)).model is None
    assert diagnosed(service, as_of=now + timedelta(days=1)).model is not None


def test_a_rollback_is_noticed_and_after_the_last_one_nothing_stays_loaded(service):
    promote(service, 1)
    promote(service, 2)
    seen = []
    for _ in range(2):
        seen.append(diagnosed(service).model["name"])
        registry.rollback(service.store, actor="tests", reason="worse")
        service.live.follow()
    resident = service.live._room.between(lambda: set(service.live._base.adapters))

    assert seen == ["diag-v2", "diag-v1"]
    assert diagnosed(service).model is None
    assert service.rung == "lexical only"
    assert resident == set()


def test_another_processs_promotion_is_noticed_by_a_running_service(service):
    service.live.start()
    registry.promote(service.store, 1, actor="somebody else", reason="better")
    service.live.noticed()
    until(lambda: service.live.serving)

    assert diagnosed(service).model["name"] == "diag-v1"


def test_who_is_in_flight_is_answered_by_the_old_model_which_then_goes(service):
    promote(service, 1)
    held, answers = threading.Event(), []
    service.live._room.soon(held.wait)  # the owner is busy, so that everybody waits
    asking = threading.Thread(target=lambda: answers.append(diagnosed(service)))
    asking.start()
    until(lambda: service.live._in_flight["diag-v1"] == 1)
    swapping = threading.Thread(target=promote, args=(service, 2))
    swapping.start()
    held.set()
    asking.join()
    swapping.join()
    resident = service.live._room.between(lambda: set(service.live._base.adapters))

    assert [a.model["name"] for a in answers] == ["diag-v1"]
    assert answers[0].hypothesis.text == tiny.SAYS[1].cause
    assert diagnosed(service).model["name"] == "diag-v2"
    assert resident == {"diag-v2"}


# What can be wrong with an adapter's folder, each told apart in what /readyz says.


def flip_a_byte(folder):
    content = bytearray((folder / adapters.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / adapters.WEIGHTS).write_bytes(content)


def truncate(folder):
    content = (folder / adapters.WEIGHTS).read_bytes()
    (folder / adapters.WEIGHTS).write_bytes(content[: len(content) // 2])


def leave_a_tensor_out(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / adapters.WEIGHTS)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, folder / adapters.WEIGHTS, metadata={"format": "pt"})
    reseal(
        folder, files={n: adapters._sha256(folder / n) for n in (adapters.CONFIG, adapters.WEIGHTS)}
    )


def reseal(folder, **instead):
    told = json.loads((folder / adapters.MANIFEST).read_text())
    (folder / adapters.MANIFEST).write_text(json.dumps(told | instead))


def put_another_in_its_place(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("diag-v3"), folder)


FAULTS = [
    (flip_a_byte, "not what was sealed"),
    (truncate, "not what was sealed"),
    (leave_a_tensor_out, "tensors changed"),
    (
        lambda folder: reseal(folder, prompt_hash="0123456789abcdef"),
        "under prompt 0123456789abcdef",
    ),
    (lambda folder: reseal(folder, base_hash="fedcba9876543210"), "to base fedcba9876543210"),
    (put_another_in_its_place, "was registered"),
    (lambda folder: (folder / "adapter_model.bin").write_bytes(b"\x80\x04."), "pickled"),
    (lambda folder: (folder / adapters.MANIFEST).unlink(), "no sound manifest.json"),
    (shutil.rmtree, "no sound manifest.json"),
]


@pytest.mark.parametrize(("spoil", "why"), FAULTS, ids=[why for _, why in FAULTS])
def test_an_unsound_adapter_is_refused_and_the_old_one_serves_on(service, home, spoil, why):
    promote(service, 1)
    spoil(home / "adapters" / "diag-v2")

    promote(service, 2)

    said = ready(service)
    assert (said["rung"], said["model"]) == ("adapter", "diag-v1")
    assert "diag-v2 is not served" in said["why"]
    assert why in said["why"]
    assert metric(service, "scarwise_model_refused") == 1
    assert diagnosed(service).model["name"] == "diag-v1"


def test_a_champion_of_another_base_or_prompt_is_refused(service, home):
    promote(service, 1)
    for field in ("base_hash", "prompt_hash"):
        odd = tiny.register(service.store, home, 2, adapter_sha256=field, **{field: "0" * 16})
        promote(service, odd.version)

        assert f"diag-v{odd.version} is not served" in ready(service)["why"]
        assert service.live.serving.name == "diag-v1"


def test_a_refusal_ends_with_the_next_promotion(service, home):
    promote(service, 1)
    flip_a_byte(home / "adapters" / "diag-v2")
    promote(service, 2)

    promote(service, 3)

    assert (service.live.why, ready(service)["model"]) == (None, "diag-v3")


def test_with_nothing_sound_to_serve_the_answer_is_extracted_and_says_why(service, home):
    flip_a_byte(home / "adapters" / "diag-v1")

    promote(service, 1)

    diagnosis = diagnosed(service)
    assert diagnosis.model is None
    assert fell_back(diagnosis).startswith("diag-v1 is not served: ")
    assert service.rung == "lexical only"
    assert metric(service, 'scarwise_model_fallbacks_total{reason="not served"}') == 1


def test_the_status_page_does_not_say_ready_while_the_champion_is_not_served(service, home):
    flip_a_byte(home / "adapters" / "diag-v1")
    promote(service, 1)
    service.without_meaning = None

    with client_of(service) as client:
        said = see(client, "/status").text

    assert "Degraded. Answers are quoted from precedents, without a model: diag-v1 is not" in said


def pickle_the_base(folder):
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


BASES = [
    (pickle_the_base, "pickled files"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is not in"),
    (shutil.rmtree, "is not in"),
]


@pytest.mark.parametrize(("spoil", "why"), BASES, ids=["pickles", "changed", "gone"])
def test_a_base_that_cannot_be_used_leaves_the_answer_without_a_model(service, home, spoil, why):
    spoil(home / "bases" / "tiny")

    promote(service, 1)

    assert why in ready(service)["why"]
    assert ready(service)["status"] == "degraded"
    assert diagnosed(service).model is None


def test_promise_9_no_answer_waits_on_a_model(service):
    promote(service, 1)
    service.live.timeout_s = 0.05
    held = threading.Event()
    service.live._room.soon(held.wait)

    diagnosis = diagnosed(service)
    held.set()

    assert diagnosis.model is None
    assert fell_back(diagnosis) == "the model took longer than 0.05 s"
    assert metric(service, 'scarwise_model_fallbacks_total{reason="timeout"}') == 1


def test_a_generation_that_dies_costs_one_answer_its_model_and_no_more(service):
    promote(service, 1)
    whole = service.live._base.model
    service.live._base.model = None

    during = diagnosed(service)
    service.live._base.model = whole

    assert fell_back(during) == "the model failed (AttributeError)"
    assert diagnosed(service).model["name"] == "diag-v1"


def test_an_answer_in_no_agreed_form_is_not_used(service, home):
    from retrieval.prompt import Reply

    made = home / "adapters" / "diag-v4"
    tiny.adapter(home / "bases" / "tiny", made, Reply(status="known", cause="w " * 150), steps=25)
    tiny.register(service.store, home, 4)
    promote(service, 4)

    diagnosis = diagnosed(service)

    assert diagnosis.model is None
    assert fell_back(diagnosis).startswith("the model's answer is not in the agreed form")
    assert metric(service, 'scarwise_model_fallbacks_total{reason="form"}') == 1


SWAPS = 10


def test_eight_clients_lose_no_answer_while_models_are_swapped_under_them(service):
    with client_of(service) as client:
        client.post("/v1/incidents", json=incident())
    promote(service, 1)
    service.live.start()
    statuses, told, over = Counter(), [], threading.Event()

    def client_of_many(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not over.is_set():
            connection.request("POST", "/v1/diagnose", json.dumps({"text": ALERT}))
            answer = connection.getresponse()
            content = json.loads(answer.read())
            statuses[answer.status] += 1
            told.append((content["model"], content["hypothesis"], content["degraded"]))
        connection.close()

    with served(service) as port:
        clients = [threading.Thread(target=client_of_many, args=(port,)) for _ in range(8)]
        for thread in clients:
            thread.start()
        for swap in range(SWAPS):
            version = 2 if swap % 2 == 0 else 1
            registry.promote(service.store, version, actor="tests", reason="to see")
            service.live.noticed()
            until(lambda wanted=version: service.live.serving.version == wanted)
            answered = len(told)
            until(lambda before=answered: len(told) >= before + 4)
        over.set()
        for thread in clients:
            thread.join()

    assert set(statuses) == {200}
    assert [d for _, _, d in told if d and "without a model" in d] == []
    assert {(m["version"], h["text"]) for m, h, _ in told} == {
        ("1", tiny.SAYS[1].cause),
        ("2", tiny.SAYS[2].cause),
    }
    assert service.live.swaps == SWAPS + 1
    resident = service.live._room.between(lambda: set(service.live._base.adapters))
    assert resident == {"diag-v1"}


def test_diagnose_without_a_running_service_asks_the_champion_too(service, environment):
    with client_of(service) as client:
        client.post("/v1/incidents", json=incident())
    registry.promote(service.store, 1, actor="tests", reason="to see")

    done = CliRunner().invoke(app, ["diagnose", ALERT, "--json"], env=environment)

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["model"]["name"] == "diag-v1"
    assert "loading the model" in done.stderr


def until(claim, most_s=60):
    end = time.monotonic() + most_s
    while not claim():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextmanager
def served(service):
    """The service on a port of its own, over real HTTP."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(service), log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until(lambda: server.started)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()
