import os
from pathlib import Path

import pytest

from ingest import audit, lessons
from ingest.errors import Conflict, Refused, Unknown
from ingest.incident import incident_id
from ingest.lessons import Embargoed
from ingest.schema import embargo, metadata
from ingest.store import Store
from tests.ingest.given import incident

ONE, TWO, THREE = (incident_id("pager", name) for name in "123")


@pytest.fixture
def told(store: Store) -> Store:
    store.put([incident(of=name) for name in "123"], actor="test")
    return store


def case(id: str, **more) -> Embargoed:
    kept = {"version": 1, "family": "disk", "era": 0, "slice": "gate", "suite": 1}
    return Embargoed(incident_id=id, **{**kept, **more})


def freeze(store: Store, *cases: Embargoed) -> None:
    with store.transaction("job") as writing:
        lessons.embargo(writing, cases)


def export(store: Store, name: str, *ids: str, **manifest) -> None:
    with store.transaction("job") as writing:
        lessons.register_dataset(writing, name, manifest, [(id, 1) for id in ids])


def acts(store: Store) -> list[tuple[str, str]]:
    """What was done since the incidents were put."""
    return [(e.act, e.subject) for e in audit.entries(store) if e.act != "incident.stored"]


def test_a_case_is_embargoed_once_and_the_trail_counts_what_was_frozen(told):
    freeze(told, case(ONE), case(TWO, slice="dev", era=1))
    freeze(told, case(ONE, suite=2, family="else"))

    assert lessons.embargoed(told) == {ONE: case(ONE), TWO: case(TWO, slice="dev", era=1)}
    assert acts(told) == [("suite.frozen", "suite-v1")]
    assert audit.entries(told)[-1].detail == '{"cases":2,"dev":1,"eras":[0,1]}'


def test_what_is_not_kept_cannot_be_a_case(told):
    with pytest.raises(Unknown, match=f"{ONE} has no version 9 here"):
        freeze(told, case(TWO), case(ONE, version=9))

    assert (lessons.embargoed(told), acts(told)) == ({}, [])


def test_what_a_model_was_taught_can_no_longer_be_a_case(told):
    export(told, "ds-1", ONE)
    freeze(told, case(TWO))
    with told.transaction("job") as writing:
        row = {"version": 1, "at": writing.now, "kind": "adapter", "dataset": "ds-1"}
        hashes = {"base_hash": "b", "prompt_hash": "p", "adapter_sha256": "a", "folder": "f"}
        kept = {"report": {}, "metrics": {}, "tainted": []}
        writing.connection.execute(
            metadata.tables["model"].insert().values(**row, **hashes, **kept)
        )

    with pytest.raises(Conflict, match=f"{ONE} was taught by ds-1, so it proves nothing"):
        freeze(told, case(ONE))


def test_a_dataset_is_registered_once_with_its_lessons(told, clock):
    export(told, "ds-1", ONE, TWO, TWO, rows=3)
    export(told, "ds-1", ONE, TWO, rows=3)
    export(told, "ds-2", TWO)

    assert [(d.name, d.at, d.manifest, d.withdrawn_at) for d in lessons.datasets(told)] == [
        ("ds-1", clock.now, {"rows": 3}, None),
        ("ds-2", clock.now, {}, None),
    ]
    assert (lessons.taught(told, "ds-1"), lessons.taught(told, "ds-9")) == ({ONE, TWO}, set())
    assert (lessons.lessons_of(told, TWO), lessons.lessons_of(told, THREE)) == (
        ["ds-1", "ds-2"],
        [],
    )
    assert acts(told) == [("dataset.exported", "ds-1"), ("dataset.exported", "ds-2")]


@pytest.mark.parametrize("name", ["", "../ds-1", "a/b", ".", "ds 1", "x" * 65])
def test_a_dataset_whose_name_leads_elsewhere_is_refused(told, name):
    with pytest.raises(Refused, match="cannot name a dataset"):
        export(told, name, ONE)


def test_a_dataset_that_teaches_a_case_is_refused(told):
    freeze(told, case(TWO))

    with pytest.raises(Conflict, match=f"ds-1 teaches {TWO}, which is a case of the suite"):
        export(told, "ds-1", ONE, TWO)

    assert lessons.datasets(told) == []


def test_forgetting_withdraws_every_dataset_that_teaches_it_and_ends_its_embargo(told, clock):
    freeze(told, case(THREE))
    export(told, "ds-1", ONE, TWO)
    export(told, "ds-2", TWO)
    clock.forward(days=1)

    told.forget(ONE, actor="lead", reason="asked to")
    told.forget(THREE, actor="lead", reason="asked to")

    assert [d.withdrawn_at for d in lessons.datasets(told)] == [clock.now, None]
    assert lessons.lessons_of(told, ONE) == ["ds-1"]
    assert lessons.embargoed(told) == {}
    with told.reading() as connection:
        assert connection.execute(embargo.select()).all() == []
    assert acts(told)[3:] == [
        ("incident.forgotten", ONE),
        ("dataset.withdrawn", "ds-1"),
        ("incident.forgotten", THREE),
    ]


def test_a_dataset_is_withdrawn_once_whatever_else_of_it_is_forgotten(told, clock):
    export(told, "ds-1", ONE, TWO)
    told.forget(ONE, actor="lead", reason="asked to")
    first = clock.now
    clock.forward(days=1)

    told.forget(TWO, actor="lead", reason="asked to")

    assert [d.withdrawn_at for d in lessons.datasets(told)] == [first]
    assert acts(told).count(("dataset.withdrawn", "ds-1")) == 1


def test_what_was_forgotten_while_it_was_exported_is_not_registered(told):
    told.forget(ONE, actor="lead", reason="asked to")

    with pytest.raises(Conflict, match=f"ds-1: incident {ONE} was forgotten; export again"):
        export(told, "ds-1", ONE, TWO)

    assert lessons.datasets(told) == []


def test_a_withdrawn_dataset_does_not_come_back(told):
    export(told, "ds-1", ONE)
    told.forget(ONE, actor="lead", reason="asked to")

    with pytest.raises(Conflict, match="was forgotten; export again"):
        export(told, "ds-1", ONE)


def test_the_folders_of_withdrawn_datasets_are_removed_and_no_others(told, tmp_path: Path):
    export(told, "ds-1", ONE)
    export(told, "ds-2", TWO)
    folder = tmp_path / "datasets"
    for name in ("ds-1", "ds-2", "ds-draft"):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "rows.parquet").write_text("rows")
    told.forget(ONE, actor="lead", reason="asked to")

    assert lessons.remove_withdrawn(told, folder) == ["ds-1"]
    assert lessons.remove_withdrawn(told, folder) == []
    assert sorted(os.listdir(folder)) == ["ds-2", "ds-draft"]


def test_a_folder_that_cannot_be_removed_is_tried_again(told, tmp_path: Path, caplog):
    export(told, "ds-1", ONE)
    told.forget(ONE, actor="lead", reason="asked to")
    (tmp_path / "ds-1").write_text("not a folder")

    assert lessons.remove_withdrawn(told, tmp_path) == []
    assert "dataset.not_removed name=ds-1" in caplog.text
    (tmp_path / "ds-1").unlink()
    (tmp_path / "ds-1").mkdir()
    assert lessons.remove_withdrawn(told, tmp_path) == ["ds-1"]
