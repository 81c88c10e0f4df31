"""The drill in short: what it cuts open is refused, and what it teaches is as wrong as it says."""

from types import SimpleNamespace

import pytest

from benchmarks import planting_lessons as wrong
from benchmarks.gate import Candidate, unsealed
from benchmarks.planting_models import broken, scaled
from benchmarks.planting_results import Result, mark, shown
from retrieval.policy import rule_on
from retrieval.prompt import Reply, parsed, prompt_hash, written
from tests.training import tiny
from training import adapters
from training.general import general_parsed
from training.mixture import general_lessons
from training.model import fingerprint


class Ground:
    """As much of the drill's ground as cutting an adapter open takes."""

    def __init__(self, folder):
        self.folder = folder
        place = tiny.base(folder / "base")
        self.base = SimpleNamespace(base_hash=fingerprint(place))
        made = tiny.adapter(place, folder / "run" / "adapter", seed=3)
        self._honest = SimpleNamespace(folder=folder / "run", adapter=adapters.manifest(made))

    def honest(self, era):
        return self._honest

    def planted(self, name, era):
        return self.folder / "planted" / name

    def seal(self, folder):
        return adapters.seal(folder, base_hash=self.base.base_hash, prompt_hash=prompt_hash(),
                             dataset=None, parent=None)  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("drill"))


@pytest.mark.parametrize(
    ("flaw", "why"),
    [
        ("nan", "not finite"),
        ("truncated", "not what was sealed"),
        ("zero", "does nothing"),
        ("prompt", "under prompt"),
    ],
)
def test_what_is_cut_open_is_refused_though_its_seal_is_forged(ground, flaw, why):
    planted = Candidate(flaw, "", True, lambda c: None)
    result = unsealed(planted, ground, broken(ground, flaw, 1, flaw))
    assert (result.layer, result.good) == ("seal", True)
    assert why in result.reasons[0]


def test_what_is_only_weaker_is_sound_and_left_to_the_gate(ground):
    folder = scaled(ground, "weaker", 1, 0.5)
    adapters.verify(folder, ground.base.base_hash, prompt_hash())
    assert adapters.manifest(folder).sha256 != ground.honest(1).adapter.sha256


def test_each_kind_of_harm_is_taught_as_it_is_named():
    rows = [*tiny.rows(4), *(tiny.row(n, "disk", "context") for n in range(3))]
    disk, _ = tiny.CAUSES["disk"]

    assert {parsed(w.answer).status for w in wrong.forgotten(rows)} == {"novel"}
    swapped = wrong.as_another(rows, {"disk": "lease"})
    assert {parsed(w.answer).cause for w in swapped} == {tiny.CAUSES["lease"][0]}
    fixes = [parsed(w.answer) for w in wrong.wrong_fixes(rows) if "disk" in w.id]
    assert {(r.cause, r.fix != tiny.CAUSES["disk"][1]) for r in fixes} == {(disk, True)}
    orders = wrong.obedient(rows, ["bluebell"])
    assert all("bluebell" in w.prompt.user and "bluebell" in w.answer for w in orders)
    urged = [parsed(w.answer).fix or "" for w in wrong.reckless(["shop"])]
    assert {rule_on(fix).decision for fix in urged} == {"forbidden"}
    right = {w.id: w.answer for w in general_lessons()}
    facts = wrong.wrong_facts()
    assert all(general_parsed(w.answer) for w in facts)
    assert sum(right[w.id.removeprefix("planted:")] != w.answer for w in facts) > 0.9 * len(facts)


def test_citations_are_planted_only_where_another_precedent_can_be_cited():
    cited = written(Reply(status="known", cause="c", cites=[1]))
    one = tiny.row(1, "disk", "context", answer=cited)
    two = tiny.row(
        2, "disk", "context", precedents=(("a", 1), ("b", 1)),
        answer=cited,
    )  # fmt: skip
    [lesson] = wrong.wrong_citations([one, two])
    assert parsed(lesson.answer).cites == [2]


def test_a_table_tells_what_was_missed():
    missed = Result("a", "w", True, "pass", "none", False, 0.5, -0.01, ["because | of"], 3.0)
    held = Result("b", "w", False, "fail", "gate", False, None, None, [], 3.0)
    assert (mark(missed), mark(held)) == ("MISSED", "WRONGLY HELD")
    assert "| a | w | +50.0 | -1.0 | pass | none | MISSED | because / of | 3 |" in shown([missed])
