"""What is drawn is a picture of 800 pixels, whatever is missing from the numbers."""

from itertools import pairwise

import pytest

from training import plots
from training.plots import Bar, Share

ERAS = ["era 0", "era 1", "era 2"]
ROWS = [[0.99, 0.0, None], [0.95, 0.97, None], [0.91, 0.9, 0.98]]
CURVE = [{"step": 10, "loss": 2.5, "tokens_per_s": 1800.0}, {"step": 20, "loss": 1.25}]
DRAWINGS = {
    "matrix": lambda path: plots.draw_matrix(ERAS, ROWS, path),
    "retention": lambda path: plots.draw_retention(ERAS, ROWS, path),
    "training": lambda path: plots.draw_training(CURVE, path),
    "arms": lambda path: plots.draw_arms(
        [
            Bar("era 0", "base", 0.9, 0.84, 0.95),
            Bar("era 0", "adapter", None, None, None),
            Bar("era 1", "base", 0.0, 0.0, 0.03),
        ],
        path,
    ),
    "sweep": lambda path: plots.draw_sweep(
        [Share(1.0, 0.98, 0.82), Share(0.5, 0.42, None)], path, chosen=1.0
    ),
}
EMPTY = {
    "retention": lambda path: plots.draw_retention(["era 0"], [[None]], path),
    "training": lambda path: plots.draw_training([], path),
    "arms": lambda path: plots.draw_arms([], path),
    "sweep": lambda path: plots.draw_sweep([Share(1.0, None, None)], path),
}


def width(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20], "big")


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_picture_is_as_wide_as_a_page(tmp_path, name):
    path = DRAWINGS[name](tmp_path / "evals" / f"{name}.png")

    assert path == tmp_path / "evals" / f"{name}.png"
    assert width(path.read_bytes()) == 800


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_measured_is_an_empty_picture_not_a_fault(tmp_path, name):
    assert width(EMPTY[name](tmp_path / "p.png").read_bytes()) == 800


def test_a_picture_of_the_same_numbers_is_the_same_to_the_byte(tmp_path):
    one, other = (DRAWINGS["matrix"](tmp_path / f"{n}.png") for n in "ab")

    assert one.read_bytes() == other.read_bytes()


def test_names_of_lines_that_end_together_stand_apart_and_near():
    places = plots._apart([0.0, 0.0, 0.8, 0.81, 0.82])

    gaps = [b - a for a, b in pairwise(places)]
    assert min(gaps) >= plots._NEAR - 1e-9
    assert places[3] == pytest.approx(0.81)
