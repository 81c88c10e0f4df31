import json
import logging
import shutil
import threading
import time

import pytest
import torch

from ingest.lessons import embargoed, taught
from ingest.store import Store
from retrieval.prompt import prompt_hash
from training import base, dataset
from training.base import MADE, Shape, build, named, opened
from training.model import ModelUnsound, fingerprint, generate, load_base
from training.world import Size

SHAPE = Shape(
    width=32, layers=1, heads=2, inner=48, vocabulary=600, context=512, steps=24, batch=4, micro=4
)
SIZE = Size(first_families=3, first_each=9)


def made(bases, **more):
    return build(bases, None, shape=SHAPE, size=SIZE, seed=3, **more)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("bases")


@pytest.fixture(scope="module")
def whole(bases):
    """A base that nothing interrupted."""
    return made(bases)


def never(*_, **__):
    raise AssertionError("this was made already")


def test_a_base_is_a_causal_model_that_answers_in_form(whole):
    loaded = load_base(str(whole.folder), device="cpu")
    store = Store.open(f"sqlite:///{whole.world}")
    rows = dataset.opened(store, whole.datasets, whole.dataset).rows()
    store.close()

    texts = generate(loaded, [r.prompt for r in rows[:3]], adapter=None, max_new_tokens=300)

    assert all(json.loads(text)["cites"] is not None for text in texts)
    assert loaded.base_hash == fingerprint(whole.folder)


def test_it_says_what_it_was_made_of(whole):
    told = json.loads((whole.folder / MADE).read_text())

    assert whole.folder.name == whole.hash == named(whole.folder.parent, SHAPE, SIZE, 3).name
    assert whole.families == ["e0-00", "e0-01", "e0-02"]
    assert told["prompt_hash"] == prompt_hash()
    assert (told["seed"], told["shape"]["steps"], told["size"]["first_each"]) == (3, 24, 9)
    assert told["cost"]["steps"] == 24
    assert told["cost"]["loss"] > 0
    assert not (whole.folder / "checkpoints").exists()


def test_it_is_taught_its_export_and_never_what_is_under_embargo(whole):
    store = Store.open(f"sqlite:///{whole.world}")
    held, learned = embargoed(store), taught(store, whole.dataset)
    store.close()

    assert held
    assert learned
    assert not held.keys() & learned


def test_made_once_it_is_found_again(whole, bases, monkeypatch):
    monkeypatch.setattr(base, "_build", never)

    assert made(bases) == whole == opened(whole.folder)


@pytest.mark.parametrize(
    "other",
    [
        {"shape": Shape(steps=25)},
        {"size": Size(first_each=10)},
        {"seed": 4},
    ],
)
def test_another_configuration_is_another_folder(tmp_path, other):
    assert named(tmp_path, **other) != named(tmp_path)


def test_what_is_not_finished_is_no_base(tmp_path):
    with pytest.raises(ModelUnsound, match=r"is not made yet .*; `scarwise base build` makes it"):
        opened(tmp_path / "offline-0")
    (tmp_path / MADE).write_text("{")
    with pytest.raises(ModelUnsound, match="is not made yet"):
        opened(tmp_path)


def killed_in(step):
    """A build that dies in this step, as its notes or its progress name it."""

    def note(what, done, total):
        if what == step:
            raise KeyboardInterrupt

    def progress(now):
        if step == now.step:
            raise KeyboardInterrupt

    return {"note": note, "progress": progress}


@pytest.mark.parametrize("step", ["storing", "exporting", 14])
def test_a_build_that_was_killed_is_finished_by_the_next_one(whole, tmp_path, step):
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, **killed_in(step))
    assert not named(tmp_path, SHAPE, SIZE, 3).exists()

    again = made(tmp_path)

    assert again.dataset == whole.dataset
    assert again.families == whole.families
    assert fingerprint(again.folder) == fingerprint(whole.folder)
    assert not list(tmp_path.glob("*.draft"))


def test_two_builds_at_once_wait_for_each_other_and_make_one(tmp_path, whole, monkeypatch):
    built, begun = [], threading.Event()

    def slowly(folder, *_):
        begun.set()
        time.sleep(0.2)
        built.append(folder)
        shutil.copytree(whole.folder, folder)

    monkeypatch.setattr(base, "_build", slowly)
    results = []
    threads = [threading.Thread(target=lambda: results.append(made(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(built) == 1
    assert results[0] == results[1]


@pytest.fixture(autouse=True)
def quietly():
    logging.getLogger("training").setLevel(logging.ERROR)
