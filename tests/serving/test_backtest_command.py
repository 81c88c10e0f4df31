"""`scarwise backtest`: one page of a real data folder, and a model only where that is fair."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.store import Store
from serving.service import Service
from serving.settings import load
from tests.eval.history import year
from tests.serving import tiny
from tests.serving.conftest import MODELS
from training import registry

SCARWISE = Path(sys.executable).parent / "scarwise"
LEARNED = datetime(2024, 3, 6, tzinfo=UTC)  # before the last two incidents of the year


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data folder with a year of incidents, embedded, and a champion that was made in March."""
    home = tmp_path_factory.mktemp("home")
    base = tiny.base(home / "bases" / "tiny")
    tiny.adapter(base, home / "adapters" / "diag-v1", tiny.SAYS[3])
    then = Store.open(f"sqlite:///{home / 'scarwise.db'}", clock=lambda: LEARNED)
    tiny.register(then, home, 1)
    registry.promote(then, 1, actor="tests", reason="tests")
    then.close()
    service = Service.open(load(environment_of(home)))
    service.store.put(year(), actor="tests")
    service.warm()
    service.embed_all()
    service.close()
    return home


def environment_of(home):
    return {
        "SCARWISE_HOME": str(home), "SCARWISE_RETRIEVAL_MODELS": str(MODELS),
        "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def backtest(home, *words, cwd=None):
    return subprocess.run(
        [SCARWISE, "backtest", *words], env=environment_of(home), cwd=cwd or home,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def rows(home, table):
    with sqlite3.connect(home / "scarwise.db") as connection:
        return connection.execute(f"select count(*) from {table}").fetchone()[0]


@pytest.fixture(scope="module")
def done(home, tmp_path_factory):
    """The whole year, replayed with everything that can be asked for, and the store around it."""
    place = tmp_path_factory.mktemp("out")
    before = hashlib.sha256((home / "scarwise.db").read_bytes()).hexdigest()
    ran = backtest(home, "--out", place / "page.html", "--cases", place / "cases.jsonl", "--json")
    assert ran.returncode == 0, ran.stderr
    after = hashlib.sha256((home / "scarwise.db").read_bytes()).hexdigest()
    return ran, place, before == after


def test_one_page_the_figures_and_every_answer(done):
    ran, place, _ = done

    told = json.loads(ran.stdout)
    html = (place / "page.html").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (place / "cases.jsonl").read_text().splitlines()]
    assert told["n"] == len(lines) == 9
    assert told["rules"] == {"family": 7, "unscored": 1, "recurrence": 1}
    assert told["page"] == str(place / "page.html")
    assert [line["source_id"] for line in lines][:2] == ["pool-1", "disk-1"]
    assert "2 Jan 2024 to 21 Mar 2024" in html
    assert len(html.encode()) < 5_000_000
    assert sorted(p.name for p in place.iterdir()) == ["cases.jsonl", "page.html"]


def test_the_champion_is_asked_of_what_began_after_it_was_registered(done):
    ran, place, _ = done

    told = json.loads(ran.stdout)
    lines = [json.loads(line) for line in (place / "cases.jsonl").read_text().splitlines()]
    asked = {line["source_id"]: line["model"]["status"] for line in lines if line["model"]}
    # It calls everything new, so what the memory is sure of is withheld.
    assert asked == {"pool-3": "inconclusive", "pool-4": "inconclusive"}
    assert "diag-v1 was registered on 2024-03-06" in told["about"]["model"]
    assert (told["model"]["n"], told["beside_model"]["n"]) == (2, 2)


def test_no_question_is_kept_no_act_is_audited_and_the_store_stays_byte_identical(home, done):
    _, _, is_same = done

    assert is_same
    assert rows(home, "query") == 0
    assert rows(home, "answer") == 0


def test_where_no_incident_is_fair_to_ask_no_model_is_loaded_and_the_page_says_so(home, tmp_path):
    done = backtest(home, "--until", "2024-02-01", "--out", tmp_path / "page.html")

    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("5 incidents were asked again")
    assert done.stdout.splitlines()[-1] == f"the page: {tmp_path / 'page.html'}"
    assert "none of these incidents began after that" in html


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--since", "soon"), "--since 'soon' is no date"),
        (("--out", "/nowhere/page.html"), "name a file in a folder that is there"),
        (("--since", "2025-01-01"), "those here began from 2024-01-02 to 2024-03-21"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(home, words, why):
    done = backtest(home, *words)

    assert done.returncode == 2
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(home.glob("*.html"))


def test_an_empty_history_is_refused_in_one_line(tmp_path):
    done = backtest(tmp_path / "home", cwd=tmp_path)

    assert done.returncode == 2
    assert "there is nothing to replay yet" in done.stderr
    assert not (tmp_path / "backtest.html").exists()
