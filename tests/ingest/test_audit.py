from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, text, update
from sqlalchemy.exc import DBAPIError

from ingest import access, audit, feedback
from ingest.audit import GENESIS, Entry, Verification
from ingest.errors import Refused, StoreUnreachable
from ingest.feedback import Feedback
from ingest.schema import audit as trail
from ingest.schema import audit_head as head
from ingest.store import Store
from tests.ingest.given import incident

FIELDS = [c.name for c in trail.columns if c.name != "seq"]
ROWS = 6


@dataclass
class Tampered:
    """A store in the hands of somebody who got past the triggers; what they did is undone."""

    connection: Connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        yield self.connection


@contextmanager
def tampering(store: Store) -> Iterator[Tampered]:
    with store._database._engine.connect() as connection:
        triggers = ["audit_refuses_update", "audit_refuses_delete", "audit_refuses_replace"]
        if connection.dialect.name == "postgresql":
            triggers = ["audit_refuses_change ON audit", "audit_refuses_truncate ON audit"]
        for trigger in triggers:
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        yield Tampered(connection)
        connection.rollback()


@pytest.fixture
def acted(store: Store) -> Store:
    """A store with six acts in its trail."""
    for n in range(ROWS):
        store.put([incident(of=str(n))], actor="on-call")
    return store


def test_an_act_leaves_one_row_that_holds_who_what_and_when(store, clock):
    [receipt] = store.put([incident()], actor="on-call")

    [entry] = audit.entries(store)
    assert entry == Entry(
        seq=1,
        at=clock.now.isoformat(),
        actor="on-call",
        act="incident.stored",
        subject=receipt.id,
        detail=f'{{"content_hash":"{store.get(receipt.id).content_hash}","redactions":{{}},"version":1}}',
        prev_hash=GENESIS,
        hash=entry.rightful_hash(),
    )


def test_every_act_leaves_exactly_one_audit_row_or_did_not_happen(store):
    def give() -> str:
        with store.transaction("on-call") as writing:
            return str(feedback.give(writing, Feedback(incident_id=id, verdict="same")).id)

    def withdraw() -> None:
        with store.transaction("on-call") as writing:
            feedback.withdraw(writing, verdict, reason="a slip")

    [receipt] = store.put([incident(trust="quarantined")], actor="on-call")
    id = receipt.id
    verdict = give()
    acts: dict[str, Callable[[], object]] = {
        "incident.released": lambda: store.release(id, actor="lead", reason="read it"),
        "feedback.withdrawn": withdraw,
        "incident.stored": lambda: store.put([incident(of="8")], actor="on-call"),
        "token.revoked": lambda: access.revoke(store, "ci", actor="lead"),
        "incident.forgotten": lambda: store.forget(id, actor="lead", reason="asked to"),
    }
    access.create(store, "ci", ["read"], actor="lead")
    for act in acts.values():
        act()
        act()

    assert [entry.act for entry in audit.entries(store)] == [
        "incident.quarantined",
        "feedback.given",
        "token.created",
        *acts,
    ]


def test_what_the_trail_cannot_tell_does_not_happen(store):
    store.put([incident()], actor="on-call")
    run(store, "INSERT INTO audit VALUES (2, 'x', 'x', 'x', 'x', 'x', 'x', 'x')")

    with pytest.raises(DBAPIError):
        store.put([incident(of="8")], actor="on-call")

    assert store.count()["incidents"] == 1
    assert audit.verify(store).broken_at == 2


def test_without_the_trails_end_nothing_is_written(store):
    run(store, "DELETE FROM audit_head")

    with pytest.raises(StoreUnreachable, match="the audit trail has lost the row"):
        store.put([incident()], actor="on-call")


def test_the_latest_acts_are_shown_newest_last_and_by_subject(acted):
    shown = [entry.seq for entry in audit.entries(acted, limit=3)]
    before = [entry.seq for entry in audit.entries(acted, before=3)]
    second = audit.entries(acted)[1]

    assert (shown, before) == ([4, 5, 6], [1, 2])
    assert audit.entries(acted, subject=second.subject) == [second]


def test_a_whole_trail_verifies_and_gives_an_anchor(acted):
    found = audit.verify(acted)

    last = audit.entries(acted)[-1]
    assert found == Verification(ok=True, entries=ROWS, head=last.hash)
    assert audit.verify(acted, anchor=found.anchor) == found


def test_an_empty_trail_is_whole(store):
    found = audit.verify(store)

    assert found == Verification(ok=True, entries=0, head=GENESIS)
    assert audit.verify(store, anchor=found.anchor).ok


def test_a_trail_that_has_grown_still_holds_to_its_anchor(acted):
    anchor = audit.verify(acted).anchor
    acted.put([incident("one more")], actor="on-call")

    assert audit.verify(acted, anchor=anchor).ok


def run(store: Store, statement: str) -> None:
    with store.transaction("intruder") as writing:
        writing.connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 6",
        "DELETE FROM audit",
    ],
)
def test_the_database_itself_refuses_to_change_a_row(acted, statement):
    before = audit.entries(acted)

    with pytest.raises(DBAPIError, match="audit rows are never changed"):
        run(acted, statement)

    assert audit.entries(acted) == before


def test_sqlite_refuses_to_replace_a_row_too(sqlite_store):
    sqlite_store.put([incident()], actor="on-call")
    sneaky = (
        "INSERT OR REPLACE INTO audit "
        "SELECT seq, at, 'x', act, subject, detail, prev_hash, hash FROM audit"
    )

    with pytest.raises(DBAPIError, match="audit rows are never changed"):
        run(sqlite_store, sneaky)


def test_postgres_refuses_to_truncate_the_trail_too(postgres_url):
    store = Store.open(postgres_url)

    with pytest.raises(DBAPIError, match="audit rows are never changed"):
        run(store, "TRUNCATE audit")
    store.close()


# PostgreSQL keeps no NUL, and neither database half a surrogate pair.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_change_of_any_field_of_any_row_breaks_the_chain_at_that_row(acted, data):
    seq = data.draw(st.integers(1, ROWS))
    name = data.draw(st.sampled_from(FIELDS))
    before = getattr(audit.entries(acted)[seq - 1], name)
    one_off = st.integers(0, len(before) - 1).map(lambda n: before[:n] + before[n + 1 :])
    value = data.draw(st.one_of(WORDS, one_off, st.just(before.upper()), st.just(before + " ")))
    assume(value != before)

    with tampering(acted) as tampered:
        edit = update(trail).where(trail.c.seq == seq).values({name: value})
        tampered.connection.execute(edit)
        found = audit.verify(tampered)

    assert (found.ok, found.broken_at) == (False, seq)


@pytest.mark.parametrize("name", FIELDS)
def test_bytes_in_place_of_the_same_text_break_the_chain(sqlite_store, name):
    sqlite_store.put([incident(of="1"), incident(of="2")], actor="on-call")

    with tampering(sqlite_store) as tampered:
        edit = text(f"UPDATE audit SET {name} = CAST({name} AS BLOB) WHERE seq = 2")
        tampered.connection.execute(edit)
        found = audit.verify(tampered)

    assert (found.ok, found.broken_at) == (False, 2)


@pytest.mark.parametrize("seq", range(1, ROWS + 1))
def test_a_deleted_row_is_missed_where_it_was(acted, seq):
    with tampering(acted) as tampered:
        tampered.connection.execute(delete(trail).where(trail.c.seq == seq))
        found = audit.verify(tampered)

    assert (found.ok, found.broken_at, found.entries) == (False, seq, seq - 1)


def test_a_renumbered_row_is_missed_where_it_was(acted):
    with tampering(acted) as tampered:
        tampered.connection.execute(update(trail).where(trail.c.seq == 3).values(seq=99))
        found = audit.verify(tampered)

    assert (found.broken_at, found.why) == (3, "row 3 is missing: row 4 comes instead")


def test_rows_in_another_order_break_the_chain(acted):
    with tampering(acted) as tampered:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            tampered.connection.execute(update(trail).where(trail.c.seq == old).values(seq=new))
        found = audit.verify(tampered)

    assert (found.ok, found.broken_at) == (False, 2)


def test_a_trail_cut_off_is_found_by_its_head(acted):
    with tampering(acted) as tampered:
        tampered.connection.execute(delete(trail).where(trail.c.seq > 4))
        found = audit.verify(tampered)

    assert (found.entries, found.broken_at) == (4, 5)
    assert found.why == "the trail ends here, but it had 6 rows: it was cut"


def test_a_trail_cut_off_with_its_head_is_found_by_an_anchor(acted):
    anchor = audit.verify(acted).anchor
    fourth = audit.entries(acted)[3]

    with tampering(acted) as tampered:
        tampered.connection.execute(delete(trail).where(trail.c.seq > 4))
        tampered.connection.execute(update(head).values(count=4, hash=fourth.hash))
        unaided = audit.verify(tampered)
        found = audit.verify(tampered, anchor=anchor)

    assert unaided.ok
    assert (found.ok, found.broken_at) == (False, 5)
    assert found.why == "the trail ends here, but the anchor was taken at row 6: it was cut"


def test_a_trail_written_anew_is_found_by_an_anchor(acted):
    anchor = audit.verify(acted).anchor
    rewritten = list[Entry]()
    for entry in audit.entries(acted):
        last = rewritten[-1].hash if rewritten else GENESIS
        forged = replace(entry, actor="nobody", prev_hash=last)
        rewritten.append(replace(forged, hash=forged.rightful_hash()))

    with tampering(acted) as tampered:
        tampered.connection.execute(delete(trail))
        rows = [{name: getattr(entry, name) for name in ("seq", *FIELDS)} for entry in rewritten]
        tampered.connection.execute(insert(trail), rows)
        tampered.connection.execute(update(head).values(hash=rewritten[-1].hash))
        unaided = audit.verify(tampered)
        found = audit.verify(tampered, anchor=anchor)

    assert unaided.ok
    assert (found.ok, found.broken_at) == (False, 6)
    assert "not the one that the anchor was taken at" in str(found.why)


@pytest.mark.parametrize("change", [{"count": 5}, {"count": 7}, {"hash": "f" * 64}])
def test_a_changed_head_is_found(acted, change):
    with tampering(acted) as tampered:
        tampered.connection.execute(update(head).values(**change))
        found = audit.verify(tampered)

    assert (found.ok, found.broken_at) == (False, 7)


def test_a_head_that_is_gone_is_found(acted):
    with tampering(acted) as tampered:
        tampered.connection.execute(delete(head))
        found = audit.verify(tampered)

    assert found.why == "the row that says where the trail ends is missing"


@pytest.mark.parametrize("anchor", ["", "6", "6:abc", "x:" + "0" * 64, "-1:" + "0" * 64])
def test_an_anchor_that_is_none_is_refused(acted, anchor):
    with pytest.raises(Refused, match="no anchor; it looks like 42:<64 hex digits>"):
        audit.verify(acted, anchor=anchor)
