"""The whole service over PostgreSQL, and two of them over one database."""

from serving.service import Service
from serving.settings import load
from tests.serving.conftest import client_of, incident


def settings_of(environment, postgres_url, home):
    home.mkdir(exist_ok=True)
    return load({**environment, "SCARWISE_HOME": str(home), "SCARWISE_STORE_URL": postgres_url})


def test_an_incident_goes_in_is_found_judged_and_forgotten(environment, postgres_url, tmp_path):
    service = Service.open(settings_of(environment, postgres_url, tmp_path / "one"))
    with client_of(service) as client:
        [one] = client.post("/v1/incidents", json=[incident()]).json()["ids"]
        asked = {"text": "too many clients already"}
        found = client.post("/v1/search", json=asked).json()
        said = {"incident_id": one, "query_id": found["query_id"], "verdict": "fixed_it"}
        given = client.post("/v1/feedback", json=said)
        judged = client.post("/v1/search", json=asked).json()["hits"]
        gone = client.request("DELETE", f"/v1/incidents/{one}")
        left = client.post("/v1/search", json=asked).json()["hits"]
    service.close()

    assert [h["incident_id"] for h in found["hits"]] == [one]
    assert (given.status_code, judged[0]["outcomes"]) == (201, {"fixed_it": 1})
    assert (gone.status_code, left) == (200, [])


def test_what_one_service_takes_in_another_finds(environment, postgres_url, tmp_path):
    one = Service.open(settings_of(environment, postgres_url, tmp_path / "one"))
    other = Service.open(settings_of(environment, postgres_url, tmp_path / "other"))
    with client_of(one) as writer, client_of(other) as reader:
        writer.post("/v1/incidents", json=incident())
        other.index.follow()
        hits = reader.post("/v1/search", json={"text": "too many clients"}).json()["hits"]
    one.close()
    other.close()

    assert [h["source_id"] for h in hits] == ["1"]
