"""From a model to its dataset, to the incidents that taught it, and back to the models."""

import json

import pytest

from tests.serving.browser import harmful, put, see
from tests.serving.conftest import incident
from tests.serving.test_models import export, made
from training import lineage


@pytest.fixture
def taught(client, cold):
    """Three incidents: one taught diag-v1, that and another taught diag-v2, which went on from it;
    their ids."""
    ids = put(client, *(incident(n, title=f"orders-db is full, case {n}") for n in "123"))
    export(cold.store, "ds-1", ids[0])
    made(cold, "a", dataset="ds-1")
    export(cold.store, "ds-2", *ids[:2])
    made(cold, "b", dataset="ds-2", parent=1)
    return ids


@pytest.fixture
def scarwise(scarwise, cold):
    return scarwise


def links(page, prefix):
    return [a["href"] for tag, a in page.elements if tag == "a" and a["href"].startswith(prefix)]


def lesson(id, model, dataset, *, forgotten=False):
    told = {"incident_id": id, "version": 1, "model": model, "dataset": dataset}
    return {**told, "forgotten": forgotten}


def test_clicks_lead_from_a_model_to_its_incidents_and_from_there_to_all_it_taught(client, taught):
    model = see(client, "/models/2")
    [to_dataset] = links(model, "/datasets/")
    dataset = see(client, to_dataset)
    to_incidents = links(dataset, "/incidents/inc-")
    back = see(client, next(a for a in to_incidents if taught[0] in a))

    assert to_dataset == "/datasets/ds-2"
    assert to_dataset in links(see(client, "/models"), "/datasets/")
    assert to_incidents == [f"/incidents/{id}?version=1" for id in sorted(taught[:2])]
    assert "orders-db is full, case 2" in dataset.text
    assert links(dataset, "/models/") == ["/models/diag-v2"]
    assert links(back, "/models/") == ["/models/diag-v1", "/models/diag-v2"]
    assert links(back, "/datasets/") == ["/datasets/ds-1", "/datasets/ds-2"]
    assert "Taught" not in see(client, f"/incidents/{taught[2]}").text
    assert harmful(dataset) == []


def test_a_long_dataset_is_turned_page_by_page(client, cold, monkeypatch):
    monkeypatch.setattr("serving.console.models.A_PAGE", 2)
    ids = sorted(put(client, *(incident(str(n)) for n in range(3))))
    export(cold.store, "ds-1", *ids)

    first = see(client, "/datasets/ds-1")
    [more] = [a for a in links(first, "/datasets/") if "after" in a]
    second = see(client, more.partition("#")[0])

    assert [links(p, "/incidents/inc-") for p in (first, second)] == [
        [f"/incidents/{id}?version=1" for id in ids[:2]],
        [f"/incidents/{ids[2]}?version=1"],
    ]


def test_what_was_forgotten_is_named_by_its_id_alone(client, cold, taught):
    client.request("DELETE", f"/v1/incidents/{taught[0]}")

    dataset = see(client, "/datasets/ds-2")
    said = client.get("/v1/models/2/incidents").json()

    assert "Withdrawn" in dataset.text
    assert f"{taught[0]} 1 forgotten" in dataset.text
    assert "case 1" not in dataset.text
    assert [it["forgotten"] for it in said] == [it["incident_id"] == taught[0] for it in said]


def test_a_dataset_that_is_not_here_has_no_page(client):
    assert client.get("/datasets/ds-9").status_code == 404


def test_a_model_names_what_taught_it_and_which_model_learned_it_first(client, cold, taught):
    own, inherited = lesson(taught[1], "diag-v2", "ds-2"), lesson(taught[0], "diag-v1", "ds-1")
    by_id = sorted([own, inherited], key=lambda it: it["incident_id"])

    assert client.get("/v1/models/diag-v2/incidents").json() == by_id
    assert client.get("/v1/models/2/incidents?limit=1").json() == by_id[:1]
    after = by_id[0]["incident_id"]
    assert client.get(f"/v1/models/2/incidents?after={after}").json() == by_id[1:]
    assert client.get("/v1/models/9/incidents").status_code == 404
    assert [it.incident_id for it in lineage.lessons(cold.store, 2)] == [taught[1], taught[0]]


def test_the_command_lists_what_taught_a_model(scarwise, taught):
    table = scarwise("models", "diag-v2", "--incidents").stdout.splitlines()
    whole = json.loads(scarwise("models", "2", "--incidents", "--json").stdout)
    of_none = scarwise("models", "--incidents")

    assert table[0].split() == ["incident", "version", *"first taught by dataset".split(),
                                "forgotten", "since"]  # fmt: skip
    assert [row.split() for row in table[1:]] == [
        [taught[1], "1", "diag-v2", "ds-2"],
        [taught[0], "1", "diag-v1", "ds-1"],
    ]
    assert [it["incident_id"] for it in whole] == [taught[1], taught[0]]
    assert (of_none.returncode, of_none.stdout) == (2, "")
    assert "of which model?" in of_none.stderr


def test_the_command_says_when_mlflow_cannot_be_told(scarwise, environment):
    environment["SCARWISE_MLFLOW_URI"] = "http://127.0.0.1:9"

    done = scarwise("mlflow")

    assert (done.returncode, done.stdout) == (4, "")
    assert "scarwise: MLflow at http://127.0.0.1:9 was not told" in done.stderr
