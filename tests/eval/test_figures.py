"""Figures that stand side by side are those of the same cases."""

from eval.figures import figures
from tests.eval.answers import both_arms, transcript


def test_each_model_has_its_telling_figures_first_and_then_every_slice():
    said = [transcript("diag-v1", both_arms("era 1", range(60))), transcript("diag-v2")]

    told = figures(said, [{"kept": 0.5}, {"kept": 1.0}])

    assert [(t["model"], t["adapter_sha256"], t["suite"]) for t in told] == [
        ("diag-v1", "sha of diag-v1", "v3"),
        ("diag-v2", "sha of diag-v2", "v3"),
    ]
    shown = [list(t["figures"].items()) for t in told]
    assert [s[0] for s in shown] == [("right/kept", 0.5), ("right/kept", 1.0)]
    assert told[0]["figures"]["suite/era 1 with retrieval"] == 0.5
    assert told[1]["figures"]["suite/era 1 closed book"] == 1.0
