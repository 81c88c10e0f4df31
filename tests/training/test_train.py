import json
import logging
from collections import namedtuple

import pytest
import torch

from ingest.errors import Refused, StoreFull, Unavailable
from retrieval.prompt import prompt_hash
from tests.training import tiny
from training import adapters, learner, train, worker
from training.adapters import interpolated, verify
from training.fit import Diverged, RowsLost
from training.model import generate, with_adapter, without_adapter
from training.recipe import Recipe
from training.train import DevScore, TooLittle, run_name

RECIPE = Recipe(
    name="test", seed=3, rank=4, learning_rate=1e-2, epochs=2, batch=8, micro=4, save_every=4,
    general=2, cautions=2, longest=512,
)  # fmt: skip
DATASET = "ds-0123456789ab"
ROWS = tiny.rows(8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.base(tmp_path_factory.mktemp("base") / "qwen")


@pytest.fixture(scope="module")
def base(folder):
    return tiny.loaded(folder)


@pytest.fixture(scope="module")
def champion(base, folder, tmp_path_factory):
    return tiny.adapter(folder, tmp_path_factory.mktemp("champion") / "diag-v1", seed=4, rank=4)


def run(base, runs, rows=ROWS, **instead):
    told = {"dataset": DATASET, "taught": (), "champion": None, "recipe": RECIPE, "dev": None}
    return train.train(rows, base=base, runs=runs, **{**told, **instead})


def preferring(alpha):
    """A dev slice that likes the adapter of this share best; each is scored once."""
    seen = []

    def dev(answer):
        answer(tiny.prompts()[:1])
        shares = sorted(RECIPE.alphas, reverse=True)
        share = shares[len(seen)]
        seen.append(share)
        return DevScore(new=0.9, kept=0.9 if share == alpha else 0.4)

    return dev


def deltas(folder):
    """ΔW of every layer."""
    return {n: b @ a for n, (a, b) in adapters._scaled(folder)[0].items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[n], other[n], atol=1e-5) for n in one
    )


def never(*_, **__):
    raise AssertionError("this was done already")


def bare(base) -> None:
    """The base is as it was loaded."""
    assert not base.adapters
    assert not hasattr(base.model, "peft_config")
    assert not any("lora" in name for name, _ in base.model.named_parameters())
    assert not any(weight.requires_grad for weight in base.model.parameters())
    assert not base.model.training
    assert not base.model.is_gradient_checkpointing


def test_a_run_leaves_a_sealed_adapter_and_says_what_it_was_made_of(base, tmp_path):
    seen, notes = [], []

    done = run(base, tmp_path, progress=seen.append, note=notes.append)

    assert done == train.finished(done.folder)
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "DONE", "adapter", "cost.json", "curve.jsonl", "environment.json", "mixture.json", "raw",
        "recipe.json", "sweep.json",
    ]  # fmt: skip
    told = verify(done.folder / "adapter", base.base_hash, prompt_hash())
    assert told == done.adapter
    assert (told.dataset, told.parent, told.alpha, told.rank) == (DATASET, None, 1.0, 4)
    assert done.mixture["counts"] == {
        "caution": 2, "general": 2, "new closed_book": 24, "new incidents": 24,
    }  # fmt: skip
    assert done.mixture["rows"] == 56
    assert done.cost["steps"] == 7
    assert (done.cost["rows_cut"], done.cost["rows_lost"]) == (0, 0)
    assert done.sweep == [
        {"alpha": 1.0, "energy": 1.0, "new": None, "kept": None, "worst": 0.0}
    ]  # fmt: skip
    assert json.loads((done.folder / "recipe.json").read_text()) == {
        **RECIPE.model_dump(mode="json"), "dataset": DATASET,
    }  # fmt: skip
    assert json.loads((done.folder / "environment.json").read_text())["base_hash"] == base.base_hash
    assert [s.step for s in seen] == list(range(1, 8))
    assert notes == [f"{done.name}: 24 new rows of 24 incidents, 56 rows in 2 epochs"]


def test_the_base_is_left_as_it_was_and_the_adapter_says_something_else(base, tmp_path):
    asked = tiny.prompts()
    before = generate(base, asked, adapter=None, max_new_tokens=24)
    weights = {n: w.clone() for n, w in base.model.named_parameters()}

    done = run(base, tmp_path, recipe=RECIPE.model_copy(update={"gradient_checkpointing": True}))

    bare(base)
    assert generate(base, asked, adapter=None, max_new_tokens=24) == before
    assert all(bool((w == weights[n]).all()) for n, w in base.model.named_parameters())
    with_adapter(base, done.folder / "adapter", name="it")
    changed = generate(base, asked, adapter="it", max_new_tokens=24)
    without_adapter(base, "it")
    assert changed != before


def test_a_finished_run_is_read_and_not_done_again(base, tmp_path, monkeypatch):
    first = run(base, tmp_path)
    monkeypatch.setattr(train, "learned", never)
    monkeypatch.setattr(train, "_sweep", never)

    assert run(base, tmp_path) == first


def test_the_same_run_elsewhere_makes_the_same_bytes(base, tmp_path):
    one, two = run(base, tmp_path / "a"), run(base, tmp_path / "b")

    assert one.name == two.name
    assert one.adapter.sha256 == two.adapter.sha256


def test_a_runs_name_is_what_goes_into_it(base, champion):
    told = {"dataset": DATASET, "recipe": RECIPE, "base_hash": "b", "champion": None}
    others = [
        {"dataset": "ds-other"},
        {"recipe": RECIPE.model_copy(update={"seed": 4})},
        {"base_hash": "c"},
        {"champion": champion},
    ]

    names = [run_name(**{**told, **other}) for other in ({}, *others)]

    assert len(set(names)) == 5
    assert run_name(**told) == names[0]


def test_too_few_new_rows_make_nothing(base, tmp_path):
    few = ROWS[:3]

    with pytest.raises(TooLittle, match=r"3 new rows of 3 incidents, and a run takes 20"):
        run(base, tmp_path, few)
    with pytest.raises(TooLittle, match="0 new rows of 0 incidents"):
        run(base, tmp_path, taught={r.incident_id for r in ROWS})

    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_the_training(base, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(learner.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    monkeypatch.setattr(learner, "fit", never)

    with pytest.raises(
        StoreFull, match=r"has 0 MB free .* need 1; free some, or set SCARWISE_HOME"
    ):
        run(base, tmp_path)

    bare(base)


def from_safetensors(*_, **__):
    from safetensors import SafetensorError

    raise SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )


def from_torch(*_, **__):
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


@pytest.mark.parametrize(
    ("writes", "full"),
    [("peft.peft_model.safe_save_file", from_safetensors), ("torch.save", from_torch)],
)
def test_a_disk_that_fills_during_the_training_is_said_and_the_run_goes_on_later(
    base, tmp_path, monkeypatch, writes, full
):
    with monkeypatch.context() as broken:
        broken.setattr(writes, full)
        with pytest.raises(StoreFull, match=r"no room is left for .*; free some, then try again"):
            run(base, tmp_path)
    bare(base)

    assert (run(base, tmp_path).folder / "adapter").is_dir()


def test_rows_that_do_not_fit_end_the_run_with_their_names(base, tmp_path):
    long = [tiny.row(n, answer="~" * 600) for n in range(50, 53)]

    with pytest.raises(RowsLost, match=r"3 of 35 rows .*inc-disk-50/closed_book"):
        run(base, tmp_path, [*ROWS, *long])

    bare(base)


def test_a_run_that_diverges_keeps_nothing_and_leaves_the_base(base, tmp_path, monkeypatch):
    honest = learner.fit.__globals__["_loss"]
    monkeypatch.setitem(
        learner.fit.__globals__, "_loss", lambda *given: honest(*given) * float("nan")
    )

    with pytest.raises(Diverged, match="3 steps in a row"):
        run(base, tmp_path)

    bare(base)
    [folder] = tmp_path.iterdir()
    assert not {"DONE", "raw", "adapter", "checkpoints"} & {p.name for p in folder.iterdir()}


def test_killed_in_the_fit_it_resumes_with_the_same_bytes(base, tmp_path):
    def dies(step):
        if step.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path / "cut", progress=dies)
    bare(base)
    done = run(base, tmp_path / "cut")

    assert done.cost["resumed_at"] == 4
    assert done.adapter.sha256 == run(base, tmp_path / "whole").adapter.sha256


def test_killed_after_the_fit_it_goes_on_with_the_sweep(base, champion, tmp_path, monkeypatch):
    def dies(answer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path, champion=champion, dev=dies)
    bare(base)
    monkeypatch.setattr(train, "learned", never)

    done = run(base, tmp_path, champion=champion, dev=preferring(0.7))

    assert done.adapter.alpha == 0.7


def test_killed_in_a_cut_of_the_rank_the_sweep_begins_again(base, champion, tmp_path, monkeypatch):
    recipe = RECIPE.model_copy(update={"most_rank": 6})

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(adapters, "compressed", dies)
        with pytest.raises(KeyboardInterrupt):
            run(base, tmp_path, champion=champion, recipe=recipe, dev=preferring(0.5))
    done = run(base, tmp_path, champion=champion, recipe=recipe, dev=preferring(0.5))

    assert (done.adapter.alpha, done.adapter.rank) == (0.5, 6)
    assert 0.5 < done.adapter.energy < 1
    assert done.sweep[0]["energy"] == done.adapter.energy


def test_it_goes_on_from_the_champion(base, champion, tmp_path):
    barely = RECIPE.model_copy(update={"learning_rate": 1e-9})

    done = run(base, tmp_path, champion=champion, recipe=barely)

    old, new = (adapters._scaled(p)[0] for p in (champion, done.folder / "adapter"))
    assert done.adapter.parent == "diag-v1"
    assert all(torch.allclose(old[n][1] @ old[n][0], new[n][1] @ new[n][0], atol=1e-5) for n in old)


def test_a_champion_of_a_higher_rank_is_cut_to_the_recipes_first(base, folder, tmp_path):
    wide = tiny.adapter(folder, tmp_path / "diag-v2", seed=5, rank=8)

    done = run(base, tmp_path / "runs", champion=wide)

    assert done.adapter.rank == 4
    assert 0.5 < done.adapter.energy < 1
    assert done.sweep[0]["energy"] == done.adapter.energy
    assert not (done.folder / "begin").exists()


@pytest.mark.parametrize("best", [1.0, 0.7])
def test_the_sweep_keeps_the_share_that_the_dev_slice_likes_best(base, champion, tmp_path, best):
    notes = []

    done = run(base, tmp_path, champion=champion, dev=preferring(best), note=notes.append)

    assert done.sweep[0]["alpha"] == best == done.adapter.alpha
    assert sorted(t["alpha"] for t in done.sweep) == [0.5, 0.7, 0.85, 1.0]
    assert f"share {best:g} of the new ΔW: new 0.9, kept 0.9" in notes
    interpolated(done.folder / "raw", champion, best, tmp_path / "by-hand")
    assert same(deltas(done.folder / "adapter"), deltas(tmp_path / "by-hand"))
    assert not list(done.folder.glob("alpha-*"))
    bare(base)


def test_among_equals_the_sweep_keeps_the_most_of_the_new(base, champion, tmp_path):
    done = run(base, tmp_path, champion=champion, dev=lambda answer: DevScore(None, 0.5))

    assert done.adapter.alpha == 1.0


def test_adapters_that_were_resident_stay_and_answer_as_before(base, champion, tmp_path):
    asked = tiny.prompts()
    with_adapter(base, champion, name="served")
    before = generate(base, asked, adapter="served", max_new_tokens=24)

    done = run(base, tmp_path, champion=champion, dev=preferring(0.85))
    after = generate(base, asked, adapter="served", max_new_tokens=24)
    alone = generate(base, asked, adapter=None, max_new_tokens=24)
    without_adapter(base, "served")

    assert after == before
    assert alone == generate(base, asked, adapter=None, max_new_tokens=24)
    assert done.adapter.alpha == 0.85
    bare(base)


def test_a_recipe_in_four_bits_wants_a_base_in_four_bits(base, tmp_path):
    with pytest.raises(Refused, match="recipe test says four_bit, and the base was loaded in"):
        run(base, tmp_path, recipe=RECIPE.model_copy(update={"four_bit": True}))


def test_two_processes_share_a_run_and_make_the_same_adapter(base, tmp_path):
    seen = []

    two = run(base, tmp_path / "two", processes=2, progress=seen.append)
    one = run(base, tmp_path / "one")

    assert [s.step for s in seen] == list(range(1, 8))
    assert (two.cost["steps"], two.cost["micro"], two.cost["skipped"]) == (7, 4, [])
    assert two.cost["tokens"] >= one.cost["tokens"]
    assert not {p.name for p in two.folder.iterdir()} & {"job.json", "lessons.jsonl", "learned"}
    verify(two.folder / "adapter", base.base_hash, prompt_hash())
    made, wanted = (adapters._tensors(r.folder / "adapter") for r in (two, one))
    assert max(float((made[n] - wanted[n]).abs().max()) for n in wanted) < 0.02
    bare(base)


def test_what_a_worker_refuses_is_raised_where_it_was_started(base, tmp_path, monkeypatch):
    long = [tiny.row(n, answer="~" * 600) for n in range(50, 53)]
    monkeypatch.setattr(worker, "_run", lambda command, log, progress: in_process(command))

    with pytest.raises(RowsLost, match="3 of 35 rows"):
        run(base, tmp_path, [*ROWS, *long], processes=2)


def in_process(command):
    """The job, here: what its process does, without a process."""
    from pathlib import Path

    return worker.main(Path(command[-1]))


def test_a_worker_that_dies_leaves_its_log_to_read(base, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_command", lambda job, path: ["sh", "-c", "echo why >&2; exit 3"])

    with pytest.raises(Unavailable, match=r"training in 2 processes ended with 3; .*worker\.log"):
        run(base, tmp_path, processes=2)

    [log] = tmp_path.glob("*/worker.log")
    assert log.read_text() == "why\n"


@pytest.fixture(autouse=True)
def quietly():
    logging.getLogger("training").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
