"""Cutting text into the windows of a model."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.chunks import MOST_CHUNKS, OVERLAP, Chunker

LONG = " ".join(
    f"step {n}: node-{n % 7} refused the connection of worker {n * n}." for n in range(400)
)


def test_a_short_text_is_one_chunk_with_the_models_special_pieces(chunker: Chunker) -> None:
    [chunk] = chunker.chunks("disk full on db-3")

    assert chunk.text == "disk full on db-3"
    assert chunk.ids.tolist() == [101, 9785, 2440, 2006, 16962, 1011, 1017, 102]
    assert (chunk.lead, chunk.end) == (1, 7)


def test_every_word_of_a_long_text_is_in_a_chunk_whole(chunker: Chunker) -> None:
    chunks = chunker.chunks(LONG)

    words = {word for chunk in chunks for word in chunk.text.split()}
    assert words == set(LONG.split())
    assert all(len(chunk.ids) <= 256 for chunk in chunks)


def test_neighbouring_chunks_share_a_little(chunker: Chunker) -> None:
    chunks = chunker.chunks(LONG)

    places = [LONG.index(c.text) for c in chunks]
    ends = [place + len(c.text) for place, c in zip(places, chunks, strict=True)]
    shared = [LONG[b:e] for e, b in zip(ends, places[1:], strict=False)]
    sizes = [len(chunker.chunks(text)[0].ids) - 2 for text in shared]
    assert all(OVERLAP <= size < 2 * OVERLAP for size in sizes)


def test_a_line_without_spaces_is_cut_between_its_words(chunker: Chunker) -> None:
    chunks = chunker.chunks("/".join(["ab"] * 400))

    assert all(c.text.startswith(("ab", "/")) and c.text.endswith(("ab", "/")) for c in chunks)
    assert sum(c.text.count("ab") for c in chunks) >= 400
    assert all(len(c.ids) <= 256 for c in chunks)


def test_what_lies_beyond_the_last_window_has_no_vector(chunker: Chunker) -> None:
    chunks = chunker.chunks("lorem ipsum " * 1_000_000)

    assert len(chunks) == MOST_CHUNKS


def test_a_prompt_comes_before_each_chunk_and_is_not_its_text(chunker: Chunker) -> None:
    plain, prompted = chunker.chunks(LONG)[0], chunker.chunks(LONG, prompt="passage: ")[0]

    assert prompted.lead == plain.lead + 2
    assert prompted.text.startswith("step 0")
    assert len(prompted.ids) <= 256


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=3000))
def test_any_text_at_all_has_chunks_within_the_window(chunker: Chunker, text: str) -> None:
    chunks = chunker.chunks(text)

    assert chunks
    assert all(2 <= len(c.ids) <= 256 and c.end <= len(c.ids) - 1 for c in chunks)
