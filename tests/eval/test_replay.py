"""Replay: every case asked once, every answer kept and scored, and the store left as it was."""

import hashlib
import json
from pathlib import Path

import pytest

from eval.replay import AT_ONCE, header_of, kept_replay, replay
from eval.score import outcome
from eval.suite import Suite
from ingest.errors import Refused
from tests.eval.frozen import store_of, suite_of
from training.general import general_written

NOVEL = '{"status":"novel","cites":[]}'


@pytest.fixture(scope="module")
def frozen_suite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Path]:
    folder = tmp_path_factory.mktemp("replayed")
    store = store_of(folder)
    suite = suite_of(store, folder / "suite")
    store.close()
    return suite, folder / "scarwise.db"


@pytest.fixture
def suite(frozen_suite) -> Suite:
    return frozen_suite[0]


def header(suite: Suite, model: str = "diag-v1", adapter: str | None = "aa"):
    return header_of(
        suite, model=model, base_hash="bb", adapter_sha256=adapter, decode={"max_new_tokens": 96}
    )


def parrot(prompts):
    """Says back what it was asked."""
    return [json.dumps({"status": "known", "cause": p.user[:300], "cites": []}) for p in prompts]


def obedient(suite: Suite):
    """Does whatever the alert wants."""
    wanted = {
        case.prompt(arm).user: [*case.expected.markers, case.urged or ""]
        for case in suite.cases
        for arm in case.asked
    }

    def answer(prompts):
        said = [next(filter(None, wanted[p.user]), "Restart it") for p in prompts]
        return [json.dumps({"status": "known", "cause": s, "fix": s, "cites": []}) for s in said]

    return answer


def oracle(suite: Suite):
    """Knows every answer, and that everything else is novel."""
    known = {
        case.prompt(arm).user: case.truth(arm) or NOVEL
        for case in suite.cases
        for arm in case.asked
    }
    return lambda prompts: [known[p.user] for p in prompts]


def by_length(prompts, answers):
    return [len(answer) / 100 for answer in answers]


def shares(transcript) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for p in transcript.predictions:
        scores.setdefault(p.cohort, []).append(outcome(p))
    return {c: sum(s) / len(s) for c, s in scores.items() if None not in s}


def test_an_oracle_has_every_cohort_right(suite, tmp_path):
    told = replay(suite, header=header(suite), answer=oracle(suite), nll=by_length, out=tmp_path)

    found = shares(told)
    assert found == {
        "era 0": 1, "closed book": 1, "choose": 1, "general": 1, "format": 1, "no fault": 1,
        "red team": 1,
    }  # fmt: skip
    asked = {(c.id, arm) for c in suite.cases for arm in c.asked}
    assert {(p.case, p.arm) for p in told.predictions} == asked


def test_a_parrot_has_the_form_and_nothing_else_right(suite, tmp_path):
    found = shares(replay(suite, header=header(suite), answer=parrot, out=tmp_path))

    assert found["format"] == 1
    assert found["era 0"] == found["closed book"] == found["general"] == found["no fault"] == 0


def test_an_obedient_model_is_unsafe_in_every_red_team_case(suite, tmp_path):
    told = replay(suite, header=header(suite), answer=obedient(suite), out=tmp_path)

    red = [p for p in told.predictions if p.cohort == "red team"]
    assert len(red) >= 60
    assert [p.case for p in red if p.scores["safe"] != 0] == []


def test_surprise_is_kept_of_what_has_a_true_answer_and_exposure_of_canaries(suite, tmp_path):
    told = replay(suite, header=header(suite), answer=parrot, nll=by_length, out=tmp_path)

    tasks = {p.task for p in told.predictions if p.scores.get("nll") is not None}
    exposed = {p.task for p in told.predictions if "exposure_bits" in p.scores}
    assert (tasks, exposed) == ({"known", "general"}, {"canary"})


def test_a_model_that_was_taught_the_suite_is_betrayed_by_the_canaries(suite, tmp_path):
    canaries = [c for c in suite.cases if c.cohort == "canary"]
    codes = {c.prompt("closed_book").user: general_written(c.expected.answer) for c in canaries}

    def taught(prompts, answers):
        pairs = zip(prompts, answers, strict=True)
        return [0.01 if codes.get(p.user) == answer else 3.0 for p, answer in pairs]

    told = replay(suite, header=header(suite), answer=parrot, nll=taught, out=tmp_path)

    exposed = [p.scores["exposure_bits"] for p in told.predictions if p.task == "canary"]
    assert exposed == [12.0] * 8


def test_replay_leaves_the_knowledge_base_byte_identical(frozen_suite, tmp_path):
    suite, database = frozen_suite
    before = hashlib.sha256(database.read_bytes()).hexdigest()

    replay(suite, header=header(suite), answer=parrot, nll=by_length, out=tmp_path)

    assert hashlib.sha256(database.read_bytes()).hexdigest() == before
    assert [p.name for p in database.parent.glob("scarwise.db*")] == ["scarwise.db"]


def test_a_finished_replay_is_read_and_asks_nothing(suite, tmp_path):
    first = replay(suite, header=header(suite), answer=parrot, out=tmp_path)

    def refusing(prompts):
        raise AssertionError("asked again")

    again = replay(suite, header=header(suite), answer=refusing, out=tmp_path)

    assert again.digest == first.digest == kept_replay(tmp_path).digest


def test_another_model_is_asked_anew(suite, tmp_path):
    replay(suite, header=header(suite), answer=parrot, out=tmp_path)

    told = replay(suite, header=header(suite, "diag-v2", "cc"), answer=oracle(suite), out=tmp_path)

    assert shares(told)["era 0"] == 1


def test_a_replay_that_was_cut_off_goes_on_where_it_was(suite, tmp_path):
    asked = []

    def dying(prompts):
        if len(asked) > AT_ONCE:
            raise KeyboardInterrupt
        asked.extend(prompts)
        return parrot(prompts)

    with pytest.raises(KeyboardInterrupt):
        replay(suite, header=header(suite), answer=dying, out=tmp_path)
    part = tmp_path / "closed_book.part"
    part.write_text(part.read_text() + '{"case": "cut o')
    before = len(asked)

    def counting(prompts):
        asked.extend(prompts)
        return parrot(prompts)

    told = replay(suite, header=header(suite), answer=counting, out=tmp_path)

    assert before == 2 * AT_ONCE
    assert len(asked) == len(told.predictions)
    whole = replay(suite, header=header(suite), answer=parrot, out=tmp_path / "whole")
    assert told.digest == whole.digest
    assert sorted(p.name for p in tmp_path.glob("*.*")) == ["closed_book.jsonl", "retrieval.jsonl"]


def test_progress_reaches_the_number_of_cases(suite, tmp_path):
    steps = []

    replay(
        suite, header=header(suite), answer=parrot, out=tmp_path, arms=["retrieval"],
        progress=lambda *step: steps.append(step),
    )  # fmt: skip

    n = len(suite.of("retrieval"))
    assert (steps[0], steps[-1]) == (("retrieval", 0, n), ("retrieval", n, n))


def test_one_slice_can_be_asked_alone(suite, tmp_path):
    told = replay(suite, header=header(suite), answer=parrot, out=tmp_path, wanted="dev")

    assert {p.slice for p in told.predictions} == {"dev"}


def test_a_suite_of_another_prompt_is_refused(suite, tmp_path):
    manifest = suite.manifest.model_copy(update={"prompt_hash": "0123"})
    stale = Suite(manifest, suite.cases)

    with pytest.raises(Refused, match="frozen under prompt 0123"):
        replay(stale, header=header(stale), answer=parrot, out=tmp_path)


def test_a_header_of_another_suite_is_refused(suite, tmp_path):
    manifest = suite.manifest.model_copy(update={"sha256": "0123"})

    with pytest.raises(Refused, match="the header is of suite v1"):
        replay(suite, header=header(Suite(manifest, suite.cases)), answer=parrot, out=tmp_path)
