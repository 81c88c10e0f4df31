import pytest

from ingest.errors import Refused
from training.recipe import FOLDER, Recipe, read


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.toml")))
def test_shipped_recipes_load_under_their_names(name):
    told = read(name)

    assert told.name == name
    assert told.batch % told.micro == 0
    assert 1.0 in told.alphas


def test_what_is_shipped_is_what_the_settings_name():
    assert {p.stem for p in FOLDER.glob("*.toml")} >= {"lora", "naive", "tiny"}
    assert read("naive").replay == "none"


def test_ones_own_file_is_a_recipe_under_its_stem(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("learning_rate = 1e-4\nepochs = 1\nseed = 9\n")

    assert read(str(path)) == Recipe(name="mine", learning_rate=1e-4, epochs=1, seed=9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lerning_rate = 1e-4\nepochs = 1\nlearning_rate = 1", "lerning_rate: .*not permitted"),
        ("learning_rate = 0\nepochs = 1", "learning_rate: .*greater than 0"),
        ("epochs = 1", "learning_rate: Field required"),
        ("learning_rate = 'fast'\nepochs = 1", "learning_rate: .*number"),
        ("learning_rate = 1\nepochs = 1\nreplay = 'some'", "replay: .*'balanced'"),
        ("learning_rate = 1\nepochs = 1\nrank = 0", "rank: .*greater than or equal to 1"),
        ("learning_rate = 1\nepochs = 1\nalphas = []", "alphas: .*at least 1 item"),
        ("learning_rate = 1\nepochs = 1\nalphas = [0.0, 1.0]", r"alphas\.0: .*greater than 0"),
        ("learning_rate = 1\nepochs = 1\nalphas = [1.5]", r"alphas\.0: .*less than or equal to 1"),
        ("learning_rate = inf\nepochs = 1", "learning_rate: .*finite"),
        ("learning_rate = 1\nepochs = 1\nper_source = -1", "per_source: .*greater than or equal"),
        ("learning_rate = ", "is not valid TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_file(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(Refused, match=said) as raised:
        read(str(path))

    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_recipe_that_is_not_there_names_those_that_are():
    with pytest.raises(Refused, match=r"there is no recipe no-such; shipped are .*lora, .*tiny"):
        read("no-such")


def test_a_recipe_in_another_encoding_is_said_to_be_unreadable(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"# caf\xe9\n")

    with pytest.raises(Refused, match=r"mine\.toml is not valid TOML"):
        read(str(path))
