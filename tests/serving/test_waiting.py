"""The prompts that wait for a model: answered together, in time, or told why not."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval.prompt import prompt
from serving.waiting import MOST_TOGETHER, MOST_WAITING, NoAnswer, WaitingRoom, _Waiting

LONG_S = 30.0


class Model:
    """Answers with the alert and the adapter; a batch waits until it is let through."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.entered = threading.Event()

    def __call__(self, prompts, adapter, stop):
        self.batches.append(len(prompts))
        self.entered.set()
        while not self.gate.wait(0.01):
            if stop():
                break
        return [f"{adapter}: {p.user}" for p in prompts]


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def room(model):
    made = WaitingRoom(model)
    yield made
    model.gate.set()
    made.close()


@pytest.fixture
def clients():
    with ThreadPoolExecutor(32) as pool:
        yield pool


def ask(room, clients, n, adapter="diag-v1"):
    return clients.submit(room.ask, prompt(f"alert {n}"), adapter, LONG_S)


def until(claim):
    while not claim():
        time.sleep(0.005)


def test_who_waits_while_the_model_is_busy_is_answered_in_one_go(room, model, clients):
    first = ask(room, clients, 0)
    model.entered.wait()
    others = [ask(room, clients, n) for n in range(1, MOST_TOGETHER + 1)]
    until(lambda: len(room._waiting) == MOST_TOGETHER)
    model.gate.set()

    texts = [future.result() for future in [first, *others]]

    assert model.batches == [1, MOST_TOGETHER]
    assert [t.split("\n")[0] for t in texts] == [
        f"diag-v1: alert: alert {n}" for n in range(MOST_TOGETHER + 1)
    ]


def test_prompts_of_two_adapters_are_never_mixed(room, model, clients):
    first = ask(room, clients, 0)
    model.entered.wait()
    others = [ask(room, clients, n, f"diag-v{1 + n % 2}") for n in range(1, 7)]
    until(lambda: len(room._waiting) == 6)
    model.gate.set()

    texts = [future.result() for future in [first, *others]]

    assert model.batches == [1, 3, 3]
    assert [t.split(":")[0] for t in texts[1:]] == ["diag-v2", "diag-v1"] * 3


def test_what_is_to_be_done_between_waits_for_one_generation_only(room, model, clients):
    first = ask(room, clients, 0)
    model.entered.wait()
    others = [ask(room, clients, n) for n in range(1, MOST_WAITING + 1)]
    until(lambda: len(room._waiting) == MOST_WAITING)
    done_after = room.soon(lambda: len(model.batches))
    model.gate.set()

    assert all(future.result() for future in [first, *others])
    assert done_after.result() == 1


def test_nobody_waits_longer_than_their_time_and_the_generation_ends_with_them(room, model):
    with pytest.raises(NoAnswer, match="longer than") as late:
        room.ask(prompt("alert"), "diag-v1", 0.05)
    model.gate.set()

    assert late.value.reason == "timeout"
    assert room.between(lambda: "the owner is free again") == "the owner is free again"


def test_who_gave_up_while_waiting_is_not_answered_any_more(room, model, clients):
    first = ask(room, clients, 0)
    model.entered.wait()
    with pytest.raises(NoAnswer):
        room.ask(prompt("impatient"), "diag-v1", 0.01)
    model.gate.set()

    first.result()
    room.between(lambda: None)

    assert model.batches == [1]


def test_one_too_many_is_told_so_at_once(room, model, clients):
    first = ask(room, clients, 0)
    model.entered.wait()
    waiting = [ask(room, clients, n) for n in range(MOST_WAITING)]
    until(lambda: len(room._waiting) == MOST_WAITING)

    with pytest.raises(NoAnswer) as crowded:
        room.ask(prompt("one more"), "diag-v1", LONG_S)
    model.gate.set()

    assert crowded.value.reason == "busy"
    assert all(future.result() for future in [first, *waiting])


def test_a_generation_that_hangs_is_waited_for_once(monkeypatch, clients):
    monkeypatch.setattr("serving.waiting.HANGS_S", 0.0)
    hung = threading.Event()
    room = WaitingRoom(lambda prompts, adapter, stop: [str(hung.wait(LONG_S))] * len(prompts))
    with pytest.raises(NoAnswer):
        room.ask(prompt("the first"), "diag-v1", 0.02)

    with pytest.raises(NoAnswer, match="hangs") as next_one:
        room.ask(prompt("the next"), "diag-v1", LONG_S)
    hung.set()
    room.close()

    assert next_one.value.reason == "busy"


def test_a_batch_that_fails_takes_no_other_with_it(clients):
    def moody(prompts, adapter, stop):
        if "bad" in prompts[0].user:
            raise RuntimeError("out of memory")
        return ["fine"] * len(prompts)

    room = WaitingRoom(moody)
    with pytest.raises(NoAnswer, match="failed \\(RuntimeError\\)") as failed:
        room.ask(prompt("bad"), "diag-v1", LONG_S)

    assert failed.value.reason == "failed"
    assert room.ask(prompt("good"), "diag-v1", LONG_S) == "fine"
    room.close()


def test_closing_ends_the_generation_and_sends_the_waiting_away(room, model, clients):
    running = ask(room, clients, 0)
    model.entered.wait()
    waiting = ask(room, clients, 1)
    until(lambda: len(room._waiting) == 1)

    room.close()

    assert running.result().startswith("diag-v1")
    with pytest.raises(NoAnswer, match="closing"):
        waiting.result()
    with pytest.raises(NoAnswer, match="closing"):
        room.ask(prompt("too late"), "diag-v1", LONG_S)
    with pytest.raises(NoAnswer, match="closing"):
        room.between(lambda: None)


def test_what_was_written_too_late_is_no_answer_even_if_it_comes_first(room, clients):
    def slow(prompts, adapter, stop):
        while not stop():
            time.sleep(0.001)
        return ["half a sen"]

    room._generate = slow
    waiting = _Waiting(prompt("alert"), "diag-v1", 0.05, time.monotonic() + 0.05)
    with room._lock:
        room._waiting.append(waiting)
        room._call_owner()

    with pytest.raises(NoAnswer, match=r"longer than 0.05 s"):
        waiting.text.result(LONG_S)
