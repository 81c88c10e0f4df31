"""The export of a model: made once, whole or not at all, and refused in plain words."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import Unavailable, Unreadable
from retrieval.embed import Embedder
from retrieval.export import ONNX, SIDECAR, TOKENIZER, exported
from retrieval.weights import file_sha256, find
from tests.retrieval.models import exported_here, folder_of


def test_the_sidecar_says_what_was_measured(embedder: Embedder) -> None:
    said = embedder.export

    assert said.backend == "onnx"
    assert said.why == "equal and faster"
    assert said.cosine_min is not None
    assert said.cosine_min >= 0.999
    assert said.onnx_ms is not None
    assert said.torch_ms is not None
    assert said.onnx_ms < said.torch_ms
    assert (said.window, said.dim, said.states_dim, said.pooling) == (256, 384, 384, "mean")
    assert set(said.files) == {ONNX, TOKENIZER}


def test_a_finished_export_is_used_as_it_is(tiny_bert: Callable[..., Path], tmp_path: Path) -> None:
    folder = exported_here(str(tiny_bert()), tmp_path)
    before = (folder / SIDECAR).stat().st_mtime_ns

    Embedder.load(str(tiny_bert()), cache=tmp_path)

    assert (folder / SIDECAR).stat().st_mtime_ns == before


def test_a_damaged_export_is_made_anew(tiny_bert: Callable[..., Path], tmp_path: Path) -> None:
    path = tiny_bert()
    folder = exported_here(str(path), tmp_path)
    expected = Embedder.load(str(path), cache=tmp_path).embed_query("disk full").vectors
    damaged = bytearray((folder / ONNX).read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (folder / ONNX).write_bytes(damaged)

    healed = Embedder.load(str(path), cache=tmp_path)

    assert healed.backend == "onnx"
    assert healed.embed_query("disk full").vectors == pytest.approx(expected, abs=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == [folder.name]


def test_an_export_by_other_libraries_is_made_anew(
    tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_bert()
    folder = exported_here(str(path), tmp_path)
    sidecar = json.loads((folder / SIDECAR).read_text())
    now = dict(sidecar["versions"])
    sidecar["versions"]["onnxruntime"] = "0.1"
    (folder / SIDECAR).write_text(json.dumps(sidecar))

    export, _ = exported(find(str(path)), tmp_path)

    assert export.versions == now


def test_a_killed_export_leaves_nothing_that_looks_finished(
    tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_bert(seed=5)
    load = "import sys; from pathlib import Path; from retrieval.embed import Embedder\n"
    load += "Embedder.load(sys.argv[1], cache=Path(sys.argv[2]))"
    process = subprocess.Popen(
        [sys.executable, "-c", load, str(path), str(tmp_path)], start_new_session=True
    )
    while not list(tmp_path.glob(f".export-*/*/{TOKENIZER}")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert not folder_of(str(path), tmp_path).exists()
    [leftover] = tmp_path.iterdir()
    os.utime(leftover, (0, 0))
    assert Embedder.load(str(path), cache=tmp_path).backend == "onnx"
    assert list(tmp_path.iterdir()) == [folder_of(str(path), tmp_path)]


def test_torch_takes_over_where_onnx_runtime_fails(
    tiny_bert: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_bert()
    folder = exported_here(str(path), tmp_path)
    expected = Embedder.load(str(path), cache=tmp_path)
    (folder / ONNX).write_bytes(b"not a model")
    sidecar = json.loads((folder / SIDECAR).read_text())
    sidecar["files"][ONNX] = file_sha256(folder / ONNX)
    (folder / SIDECAR).write_text(json.dumps(sidecar))

    with caplog.at_level(logging.WARNING, "retrieval"):
        found = Embedder.load(str(path), cache=tmp_path)

    assert (found.backend, found.model_id) == ("torch", expected.model_id)
    assert "embedder.fallback backend=torch" in caplog.text
    for a, b in zip(found.embed(["disk full"]), expected.embed(["disk full"]), strict=True):
        assert a.vectors == pytest.approx(b.vectors, abs=1e-5)
        assert np.abs(a.tokens.astype(int) - b.tokens).max() <= 1


def test_a_name_that_is_nowhere_is_refused_with_the_settings_name(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"retrieval\.embedder names 'no-such-model'"):
        Embedder.load("no-such-model", cache=tmp_path)


def test_a_hub_name_that_cannot_be_fetched_is_refused_with_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(Unavailable, match=r"retrieval\.embedder names .* cannot be fetched"):
        Embedder.load("somebody/some-model", cache=tmp_path)


def test_a_pickled_model_is_not_opened(tiny_bert: Callable[..., Path], tmp_path: Path) -> None:
    path = tiny_bert(seed=7)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")

    with pytest.raises(Unreadable, match=r"holds no \*\.safetensors file"):
        Embedder.load(str(path), cache=tmp_path)


def test_code_that_comes_with_a_model_is_not_run(
    tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_bert(seed=8)
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["type"] = "custom.Trap"
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "custom.py").write_text("raise SystemExit('it ran')")

    with pytest.raises(Unreadable, match=r"asks for code of its own \(custom\.Trap\)"):
        Embedder.load(str(path), cache=tmp_path)


def test_a_cache_that_cannot_be_written_is_named(
    tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match=r"cannot be exported to .*file/models"):
        Embedder.load(str(tiny_bert()), cache=tmp_path / "file" / "models")


def test_a_model_that_does_not_load_is_named(
    tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_bert(seed=9)
    (path / "model.safetensors").write_bytes(b"nonsense")

    with pytest.raises(Unavailable, match=r"'tiny-bert' cannot be exported: .*retrieval\.embedder"):
        Embedder.load(str(path), cache=tmp_path)
