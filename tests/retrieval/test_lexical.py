"""Words: equal to an established BM25, at once after each write, and true to what may be seen."""

import json
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from retrieval.lexical import MOST_TERMS, Lexical
from retrieval.words import STOP_WORDS, words

RUNBOOKS = Path(__file__).parents[3] / "shared" / "data" / "dev" / "tasks" / "alert_to_runbook"
TEXTS = [
    "Checkout answers 503 since the deploy of payments",
    "Disk full on db-3, replication stopped",
    "",
    "Payments time out: connection pool of db-3 exhausted",
    "Certificate of the gateway expired, all clients fail",
]


def lexical(texts=TEXTS):
    index = Lexical()
    index.add(texts)
    return index


def generated(count):
    rng = random.Random(1)
    vocabulary = [f"w{n}ord" for n in range(400)] + ["OOMKilled", "the", "not", "db-3"]
    return [" ".join(rng.choices(vocabulary, k=rng.randint(0, 90))) for _ in range(count)]


def texts_of(name):
    lines = (RUNBOOKS / name).read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["text"] for line in lines if line]


def scored_by_bm25s(texts, question):
    bm25s = pytest.importorskip("bm25s", reason="bm25s is not installed: pip install '.[bench]'")
    import Stemmer

    def terms(text):
        return Stemmer.Stemmer("english").stemWords([w for w in words(text) if w not in STOP_WORDS])

    index = bm25s.BM25()
    index.index([terms(text) for text in texts], show_progress=False)
    return index.get_scores(terms(question))


@pytest.mark.parametrize("question", ["w1ord w2ord w2ord w77ord nowhere", "OOMKilled on db-3"])
def test_scores_are_those_of_bm25s(question):
    texts = generated(300)

    ours = lexical(texts).ask(question).scores

    np.testing.assert_allclose(ours, scored_by_bm25s(texts, question), rtol=1e-5, atol=1e-6)


def test_scores_are_those_of_bm25s_on_real_runbooks():
    if not RUNBOOKS.exists():
        pytest.skip(f"no real runbooks to compare on: {RUNBOOKS} is not there")
    docs, asked = texts_of("corpus.jsonl"), texts_of("queries.jsonl")[::10]

    ours = [lexical(docs).ask(question).scores for question in asked]

    theirs = [scored_by_bm25s(docs, question) for question in asked]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_rows_added_one_by_one_score_as_if_added_at_once():
    texts = generated(70)
    grown = Lexical()
    for text in texts:
        grown.add([text])

    one, other = grown.ask("w3ord w4ord OOMKilled"), lexical(texts).ask("w3ord w4ord OOMKilled")

    assert len(grown) == 70
    np.testing.assert_allclose(one.scores, other.scores)
    np.testing.assert_allclose(one.coverage, other.coverage)


def test_what_is_not_seen_changes_no_score():
    texts = generated(40)
    seen = np.arange(40) < 25

    masked = lexical(texts).ask("w3ord w4ord OOMKilled nowhere", seen)

    alone = lexical(texts[:25]).ask("w3ord w4ord OOMKilled nowhere")
    np.testing.assert_allclose(masked.scores, [*alone.scores, *[0] * 15], rtol=1e-6)
    np.testing.assert_allclose(masked.coverage, [*alone.coverage, *[0] * 15], rtol=1e-6)


def test_the_answer_has_the_rows_of_the_mask_whatever_was_added_since():
    index = lexical()

    shorter = index.ask("db-3", np.ones(2, bool)).scores
    longer = index.ask("db-3", np.ones(7, bool)).scores

    assert (shorter > 0).tolist() == [False, True]
    assert (longer > 0).tolist() == [False, True, False, True, False, False, False]


def test_coverage_is_the_share_of_the_question_that_a_row_holds_by_rarity():
    index = lexical(["disk full", "disk slow", "cpu hot"])

    coverage = index.ask("disk full unheard").coverage

    assert coverage[0] > coverage[1] > coverage[2] == 0
    assert coverage[0] < 1
    assert index.ask("the disk full").coverage[0] == pytest.approx(1)


def test_shared_words_come_as_they_were_asked_the_rarest_first():
    index = lexical(["payments timed out", "payments failed", "payments: disk timeouts"])

    reading = index.ask("Payments timing out again: Disk")

    assert reading.shared(0) == ["timing", "out", "payments"]
    assert reading.shared(1) == ["payments"]
    assert reading.shared(2, most=1) == ["disk"]


def test_a_word_is_found_by_its_stem_and_an_identifier_by_its_parts():
    index = lexical(["pods were OOMKilled", "pod restarting"])

    assert (index.ask("killed").scores > 0).tolist() == [True, False]
    assert (index.ask("restarts").scores > 0).tolist() == [False, True]


@pytest.mark.parametrize("question", ["", "the of and", "?!", "unheard"])
def test_a_question_without_known_words_finds_nothing(question):
    reading = lexical().ask(question)

    assert reading.scores.tolist() == [0, 0, 0, 0, 0]
    assert reading.coverage.tolist() == [0, 0, 0, 0, 0]
    assert reading.ceiling == 0


def test_an_empty_index_answers():
    assert Lexical().ask("db-3").scores.tolist() == []


def test_a_forgotten_row_is_never_found_again_and_weighs_nothing():
    index = lexical()
    index.remove(1)
    seen = np.array([True, False, True, True, True])

    forgotten = index.ask("disk full on db-3")

    assert forgotten.scores[1] == 0
    assert forgotten.shared(1) == []
    left = lexical([t for n, t in enumerate(TEXTS) if n != 1]).ask("disk full on db-3").scores
    np.testing.assert_allclose(index.ask("disk full on db-3", seen).scores[seen], left, rtol=1e-6)


def test_of_a_pasted_log_the_rarest_terms_are_asked():
    filler = " ".join(f"x{n}word" for n in range(MOST_TERMS + 50))
    index = lexical([filler, filler, filler + " culprit"])

    scores = index.ask(filler + " culprit").scores

    assert scores.argmax() == 2


def test_a_question_sees_whole_rows_while_others_are_added():
    index, done = Lexical(), threading.Event()
    wrong = []

    def ask():
        while not done.is_set():
            reading = index.ask("disk failure")
            if not (reading.scores > 0).all() or not (reading.coverage > 0.99).all():
                wrong.append(reading)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(300):
        index.add([f"disk failure number {n}", f"failure of disk {n}"])
    done.set()
    for reader in readers:
        reader.join()

    assert wrong == []
    assert len(index) == 600
