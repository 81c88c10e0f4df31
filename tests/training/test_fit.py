import json
import logging
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from tests.training import fits, tiny
from tests.training.fits import fitted, items, learner, saved
from training import fit
from training.batches import Item
from training.fit import Diverged, RowsLost, whole_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.base(tmp_path_factory.mktemp("base") / "qwen")


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The adapter's file, and the account, of a run that nothing interrupted."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("whole")
    model, told = fitted(base, place / "checkpoints")
    return saved(model, place / "saved"), told


def by_hand(base, prompt_weight=0.0) -> float:
    """The loss of the untaught base on all rows, token by token."""
    model = learner(base).eval()
    asked, said, answered = 0.0, 0.0, 0
    for item in items(base)[0]:
        with torch.no_grad():
            logs = model(torch.tensor([item.ids])).logits[0].log_softmax(-1)
        losses = [-float(logs[n - 1, token]) for n, token in enumerate(item.ids) if n]
        asked += sum(losses[: item.prompt - 1])
        said += sum(losses[item.prompt - 1 :])
        answered += len(item.ids) - item.prompt
    return (said + prompt_weight * asked) / answered


def planted(monkeypatch, change) -> list[int]:
    """Have `change(call, rows, loss)` make the loss of each micro-batch; the calls are counted."""
    honest, calls = fit._loss, []

    def loss(model, inputs, answered):
        calls.append(len(inputs["input_ids"]))
        return change(len(calls), calls[-1], honest(model, inputs, answered))

    monkeypatch.setattr(fit, "_loss", loss)
    return calls


def nan_at(*calls):
    return lambda call, rows, loss: loss * math.nan if call in calls else loss


def near(one: bytes, other: bytes, most: float = 1e-3) -> bool:
    """Whether two adapters differ by rounding only."""
    a, b = load(one), load(other)
    return a.keys() == b.keys() and all(
        torch.allclose(a[name], b[name], rtol=0, atol=most) for name in a
    )


def test_all_of_one_part_is_taught_before_the_next(base, tmp_path, monkeypatch):
    taught, names = items(base)
    seen = []
    monkeypatch.setattr(fit.Watch, "saw", lambda self, names, tokens, loss: seen.extend(names))

    fit.fit(learner(base), taught * 3, names * 3, pad=0, folder=tmp_path,
            parts=[n for n in range(3) for _ in taught],
            knobs=replace(fits.KNOBS, epochs=1, batch=6, micro=3))  # fmt: skip

    assert [sorted(seen[n : n + 18]) for n in (0, 18, 36)] == [sorted(names)] * 3


@pytest.mark.parametrize("weight", [0.0, 0.1])
@pytest.mark.parametrize("micro", [18, 6])
def test_the_loss_is_that_of_the_answers_tokens(base, tmp_path, micro, weight):
    _, told = fitted(base, tmp_path, batch=18, micro=micro, epochs=1, prompt_weight=weight)

    assert told.steps == 1
    assert told.curve[0]["loss"] == pytest.approx(by_hand(base, weight), rel=1e-4)
    assert told.tokens == sum(len(item.ids) for item in items(base)[0])


def test_a_fit_lowers_the_loss_and_says_what_it_cost(whole):
    _, told = whole

    assert (told.steps, told.micro, told.resumed_at, told.skipped) == (20, 4, 0, [])
    assert [p["step"] for p in told.curve] == list(range(1, 21))
    assert told.curve[-1]["loss"] < told.curve[0]["loss"] - 0.1
    assert told.loss == told.curve[-1]["loss"]
    assert told.cpu_s > 0
    assert told.wall_s > 0
    assert told.peak_rss_mb > 50


def test_killed_and_resumed_it_ends_with_the_same_bytes(base, whole, tmp_path):
    folder = tmp_path / "checkpoints"
    command = [sys.executable, "-m", "tests.training.fits", str(base), str(folder)]
    dead = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    newest = whole_checkpoint(folder)
    broken = shutil.copytree(newest, folder / "checkpoint-12")
    (broken / "DONE").unlink()
    (broken / "adapter_model.safetensors").write_bytes(b"half")

    model, told = fitted(base, folder)

    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    assert newest.name == "checkpoint-10"
    assert told.resumed_at == 10
    assert saved(model, tmp_path / "saved") == whole[0]
    assert told.tokens == whole[1].tokens
    assert [(p["step"], p["loss"]) for p in told.curve] == [
        (p["step"], p["loss"]) for p in whole[1].curve
    ]


def test_the_newest_checkpoint_that_is_whole_counts_and_steps_are_numbers(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-11"):
        (tmp_path / name).mkdir()
    for name in ("checkpoint-9", "checkpoint-10"):
        (tmp_path / name / "DONE").touch()

    assert whole_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert whole_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize(("micro", "call"), [(4, 4), (2, 7), (2, 8)])
def test_a_loss_that_is_not_finite_changes_neither_weights_nor_moments(
    base, tmp_path, monkeypatch, micro, call
):
    planted(monkeypatch, nan_at(call))

    model, told = fitted(base, tmp_path, micro=micro, steps=4, save_every=1)

    [skip] = told.skipped
    before, after = (tmp_path / f"checkpoint-{n}" for n in (3, 4))
    assert skip["step"] == 3
    assert skip["why"] == "loss that is not finite"
    assert set(skip["rows"]) <= set(items(base)[1])
    assert len(skip["rows"]) == 4
    name = "adapter_model.safetensors"
    assert (before / name).read_bytes() == (after / name).read_bytes()
    assert moments(before) == moments(after)
    assert all(bool(torch.isfinite(w).all()) for w in model.parameters())
    assert all(math.isfinite(p["loss"]) for p in told.curve)


def moments(checkpoint):
    held = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    return {n: {k: v.tolist() for k, v in state.items()} for n, state in held.items()}


def test_steps_after_a_skipped_one_learn_on(base, tmp_path, monkeypatch):
    planted(monkeypatch, nan_at(3))

    _, told = fitted(base, tmp_path)

    assert [s["step"] for s in told.skipped] == [2]
    assert told.loss < told.curve[0]["loss"] - 0.1


def test_three_steps_in_a_row_end_the_run_and_nothing_is_kept(base, tmp_path, monkeypatch):
    calls = planted(monkeypatch, nan_at(9, 10, 11))
    folder = tmp_path / "checkpoints"

    with pytest.raises(Diverged, match=r"3 steps in a row had a loss .* Look at rows inc-"):
        fitted(base, folder)

    assert len(calls) == 11
    assert not folder.exists()


def test_two_steps_in_a_row_do_not(base, tmp_path, monkeypatch):
    planted(monkeypatch, nan_at(9, 10, 12, 13))

    _, told = fitted(base, tmp_path)

    assert [s["step"] for s in told.skipped] == [8, 9, 11, 12]


def test_a_gradient_far_above_the_usual_is_skipped(base, tmp_path, monkeypatch):
    planted(monkeypatch, lambda call, rows, loss: loss * 1e4 if call == 25 else loss)

    _, told = fitted(base, tmp_path, epochs=6)

    [skip] = told.skipped
    assert skip["step"] == 24
    assert "is usual" in skip["why"]


def test_what_is_usual_is_known_across_a_resume(base, tmp_path, monkeypatch):
    def spoiled(call, rows, loss):
        if call == 23:
            raise KeyboardInterrupt
        return loss * 1e4 if call == 26 else loss

    planted(monkeypatch, spoiled)
    with pytest.raises(KeyboardInterrupt):
        fitted(base, tmp_path, epochs=6)

    _, told = fitted(base, tmp_path, epochs=6)

    assert told.resumed_at == 20
    assert [s["step"] for s in told.skipped] == [22]


def full_above(most):
    def loss(call, rows, loss):
        if rows > most:
            raise torch.OutOfMemoryError("out of memory")
        return loss

    return loss


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(base, tmp_path, monkeypatch):
    quiet = {"model": learner(base, dropout=0.0)}
    model, _ = fitted(base, tmp_path / "a", **quiet)
    wanted = saved(model, tmp_path / "a" / "saved")
    planted(monkeypatch, full_above(1))

    model, told = fitted(base, tmp_path / "b", model=learner(base, dropout=0.0))

    assert (told.micro, told.steps) == (1, 20)
    assert near(saved(model, tmp_path / "b" / "saved"), wanted)


def test_out_of_memory_late_goes_on_from_the_last_checkpoint(base, tmp_path, monkeypatch):
    model, _ = fitted(base, tmp_path / "a", model=learner(base, dropout=0.0))
    wanted = saved(model, tmp_path / "a" / "saved")

    def late(call, rows, loss):
        return full_above(2)(call, rows, loss) if call > 8 else loss

    planted(monkeypatch, late)
    model, told = fitted(base, tmp_path / "b", model=learner(base, dropout=0.0))

    assert (told.micro, told.steps, told.resumed_at) == (2, 20, 5)
    assert near(saved(model, tmp_path / "b" / "saved"), wanted)


def test_the_halved_micro_batch_is_remembered_by_a_resume(base, tmp_path, monkeypatch):
    def spoiled(call, rows, loss):
        if call == 19:
            raise KeyboardInterrupt
        return full_above(2)(call, rows, loss)

    with monkeypatch.context() as first:
        planted(first, spoiled)
        with pytest.raises(KeyboardInterrupt):
            fitted(base, tmp_path)
    calls = planted(monkeypatch, full_above(2))

    _, told = fitted(base, tmp_path)

    assert (told.micro, told.resumed_at) == (2, 5)
    assert max(calls) == 2


def test_out_of_memory_with_one_row_at_a_time_says_what_to_lower(base, tmp_path, monkeypatch):
    planted(monkeypatch, full_above(0))

    with pytest.raises(Diverged, match=r"out of memory at 1 rows .* lower the recipe's micro"):
        fitted(base, tmp_path)


def test_micro_batches_add_up_to_the_step_of_the_whole_batch(base, tmp_path):
    got = {}
    for micro in (18, 9, 5):
        model = learner(base, dropout=0.0)
        model, told = fitted(base, tmp_path / f"{micro}", model=model, batch=18, micro=micro)
        got[micro] = saved(model, tmp_path / f"{micro}" / "saved")

    assert near(got[9], got[18])
    assert near(got[5], got[18])
    assert told.micro == 3  # 5 rows at a time do not make 18


def test_rows_that_do_not_fit_are_counted_and_too_many_end_it(base, tmp_path):
    fine, names = items(base)
    lost = Item([], 0, 0, lost=True)
    many = (fine * 6)[:101]

    with pytest.raises(RowsLost, match=r"2 of 20 rows .*\(long-1, long-2\)"):
        fit.fit(learner(base), [*fine, lost, lost], [*names, "long-1", "long-2"], pad=0,
                knobs=fits.KNOBS, folder=tmp_path)  # fmt: skip
    with pytest.raises(RowsLost, match="no row to learn from"):
        fit.fit(learner(base), [], [], pad=0, knobs=fits.KNOBS, folder=tmp_path)
    told = fit.fit(learner(base), [*many, lost], [*map(str, range(101)), "long"], pad=0,
                   knobs=fits.KNOBS.__class__(1e-3, 1, 101, 101), folder=tmp_path)  # fmt: skip

    assert told.steps == 1


def test_weights_that_are_not_finite_are_never_the_end_of_a_fit(base, tmp_path):
    model = learner(base)
    next(w for w in model.parameters() if w.requires_grad).data.fill_(math.nan)

    with pytest.raises(Diverged):
        fitted(base, tmp_path, model=model, epochs=0.2)


def test_gradient_checkpointing_gives_the_same_adapter(base, tmp_path):
    got = []
    for on in (False, True):
        model = learner(base, dropout=0.0)
        model, _ = fitted(base, tmp_path / str(on), model=model, gradient_checkpointing=on)
        got.append(saved(model, tmp_path / str(on) / "saved"))

    assert near(*got)


def test_bfloat16_learns_too_and_its_adapter_is_float32(base, tmp_path):
    model, told = fitted(base, tmp_path, model=learner(base, dtype=torch.bfloat16), bf16=True)

    assert told.loss < told.curve[0]["loss"] - 0.1
    assert {t.dtype for t in load(saved(model, tmp_path / "saved")).values()} == {torch.float32}


def test_progress_and_checkpoints_come_as_the_knobs_say(base, tmp_path):
    seen = []

    fitted(base, tmp_path, progress=seen.append)

    assert [s.step for s in seen] == list(range(1, 21))
    assert {s.steps for s in seen} == {20}
    assert seen[-1].left_s == 0
    assert all(s.tokens_per_s > 0 for s in seen)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-15", "checkpoint-20"]
    assert json.loads((tmp_path / "checkpoint-20" / "watch.json").read_text())["micro"] == 4


@pytest.fixture(autouse=True)
def quietly():
    logging.getLogger("training").setLevel(logging.ERROR)
