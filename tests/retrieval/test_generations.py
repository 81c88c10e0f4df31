"""Chroma's copy: written whole, probed from outside, healed when it is not what it should be."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from retrieval.generations import Generations, Unsound

DIM = 16


def unit_vectors(count, seed=1):
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def generations(tmp_path):
    owned = Generations(tmp_path / "index", "model-a", DIM)
    assert owned.own()
    yield owned
    owned.disown()


@pytest.fixture
def filled(generations):
    vectors = unit_vectors(300)
    generations.rebuild([([f"inc-{n}:1:0" for n in range(300)], vectors)])
    return generations, vectors


def database(generations):
    return generations.current() / "chroma.sqlite3"


def test_a_rebuilt_generation_finds_its_vectors_and_is_current(filled):
    generations, vectors = filled

    [(found, cosine), *_] = generations.nearest(vectors[42], 3)

    assert (found, round(cosine, 4)) == ("inc-42:1:0", 1.0)
    assert generations.check() == 300
    assert generations.intact()


def test_what_is_added_and_deleted_after_an_open_is_there_at_the_next(filled, tmp_path):
    generations, _ = filled
    generations.upsert(["inc-new:1:0"], unit_vectors(1, seed=9))
    generations.delete(["inc-0:1:0"])
    generations.disown()
    again = Generations(tmp_path / "index", "model-a", DIM)
    assert again.own()

    held = again.open()

    assert ("inc-new:1:0" in held, "inc-0:1:0" in held, len(held)) == (True, False, 300)
    again.disown()


def test_only_one_process_owns_the_folder(filled, tmp_path):
    other = Generations(tmp_path / "index", "model-a", DIM)

    assert not other.own()


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove", "pointer", "foreign"])
def test_harm_is_seen_by_the_probe_and_healed_by_a_rebuild(filled, harm):
    generations, vectors = filled
    path = database(generations)
    pointer = generations.folder / "current.json"
    if harm == "flip":
        content = bytearray(path.read_bytes())
        content[4096:40_000] = os.urandom(40_000 - 4096)
        path.write_bytes(content)
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "remove":
        path.unlink()
    elif harm == "pointer":
        pointer.write_text("{")
    else:
        pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "model_id": "model-b"}))

    with pytest.raises(Unsound):
        generations.check()
    generations.rebuild([([f"inc-{n}:1:0" for n in range(300)], vectors)])

    assert generations.check() == 300


def test_only_the_current_generation_is_left_on_the_disk(filled):
    generations, vectors = filled

    generations.rebuild([(["inc-1:1:0"], vectors[:1])])

    assert [g.name for g in generations.folder.glob("gen-*")] == [generations.current().name]


WRITER = """
import sys, numpy as np
from pathlib import Path
from retrieval.generations import Generations
g = Generations(Path(sys.argv[1]), "model-a", 16)
assert g.own()
rng = np.random.default_rng(5)
g.rebuild([(["first:1:0"], np.eye(1, 16, dtype=np.float32))])
n = 0
while True:
    v = rng.standard_normal((50, 16)).astype(np.float32)
    g.upsert([f"i{n + k}:1:0" for k in range(50)], v / np.linalg.norm(v, axis=1, keepdims=True))
    n += 50
    print(n, flush=True)
"""


def test_a_process_killed_while_it_writes_leaves_a_copy_that_can_be_trusted(tmp_path):
    for attempt in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "index")],
            stdout=subprocess.PIPE,
            text=True,
        )
        told = 0
        for line in writer.stdout:
            told = int(line)
            if told >= 200 + 150 * attempt:
                break
        time.sleep(0.003 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()

        survivor = Generations(tmp_path / "index", "model-a", DIM)
        assert survivor.own()
        assert survivor.check() >= told + 1
        survivor.disown()
