"""Settings: one place, three sources, no silent typo."""

import subprocess
import sys
from pathlib import Path

import pytest

from ingest.errors import Refused
from serving import settings
from serving.settings import UnknownSetting, load


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    (tmp_path / "scarwise.toml").write_text('[serve]\nport = 9000\nhost = "::1"\n')

    found = load({"SCARWISE_HOME": str(tmp_path), "SCARWISE_SERVE_PORT": "9001"})

    assert (found.serve.port, found.serve.host, found.serve.longest_body_mb) == (9001, "::1", 8)


def test_everything_is_kept_in_the_data_folder_unless_a_setting_names_another_place(tmp_path):
    found = load({"SCARWISE_HOME": str(tmp_path)})

    places = [found.models, found.index, found.running]
    assert [p.parent for p in places] == [tmp_path] * 3
    assert found.store_url == f"sqlite:///{tmp_path}/scarwise.db"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("[serve]\nprot = 1\n", "[serve] there is no setting prot; did you mean port?"),
        ("[retreival]\n", "there is no setting retreival; did you mean retrieval?"),
        ("serve = 1\n", "serve is a section: write [serve] and its keys below"),
    ],
)
def test_a_key_that_nobody_knows_is_refused_with_the_nearest(tmp_path, written, why):
    (tmp_path / "scarwise.toml").write_text(written)

    with pytest.raises(Refused) as refusal:
        load({"SCARWISE_HOME": str(tmp_path)})

    assert str(refusal.value) == f"{tmp_path}/scarwise.toml: {why}"


def test_a_variable_that_nobody_knows_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UnknownSetting) as refusal:
        load({"SCARWISE_HOME": str(tmp_path), "SCARWISE_STORE_URI": "x"})

    assert str(refusal.value) == (
        "environment: there is no setting SCARWISE_STORE_URI; did you mean SCARWISE_STORE_URL?"
    )


def test_a_value_of_the_wrong_kind_names_the_place_and_the_key(tmp_path):
    with pytest.raises(Refused) as refusal:
        load({"SCARWISE_HOME": str(tmp_path), "SCARWISE_SERVE_PORT": "soon"})

    assert str(refusal.value).startswith("SCARWISE_SERVE_PORT: serve.port: ")
    assert str(refusal.value).endswith("got 'soon'")


def test_a_file_that_is_not_toml_is_refused_with_its_name(tmp_path):
    (tmp_path / "scarwise.toml").write_text("port: 1")

    with pytest.raises(Refused, match=r"scarwise\.toml is not valid TOML"):
        load({"SCARWISE_HOME": str(tmp_path)})


def test_the_printed_settings_are_a_file_that_means_the_same(tmp_path):
    given = {"SCARWISE_HOME": str(tmp_path), "SCARWISE_RETRIEVAL_THREADS": "3"}
    first = load(given)

    (tmp_path / "scarwise.toml").write_text(settings.as_toml(first))

    assert load({"SCARWISE_HOME": str(tmp_path)}) == first


def test_a_password_in_the_store_url_is_never_printed(tmp_path):
    given = {"SCARWISE_HOME": str(tmp_path), "SCARWISE_STORE_URL": "postgresql://u:hunter22@db/x"}

    found = load(given)

    assert "hunter22" not in settings.as_toml(found) + repr(found) + found.model_dump_json()


def test_a_typo_in_the_environment_ends_the_command_with_one_line(tmp_path):
    done = subprocess.run(
        [Path(sys.executable).parent / "scarwise", "settings"],
        env={"SCARWISE_HOME": str(tmp_path), "SCARWISE_SERVE_PROT": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "did you mean SCARWISE_SERVE_PORT?" in done.stderr
