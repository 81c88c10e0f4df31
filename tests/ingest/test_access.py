import threading

import pytest
from sqlalchemy import select

from ingest import access, audit
from ingest.access import Token
from ingest.errors import Conflict, Refused, Unknown
from ingest.schema import token
from ingest.store import Store
from tests.ingest.given import incident

CALL = ("key-1", "POST /v1/incidents", "body-hash")


def test_a_secret_is_shown_once_and_only_its_hash_is_kept(store):
    secret = access.create(store, "ci", ["write", "read"], actor="lead")

    with store.reading() as connection:
        [row] = connection.execute(select(token))
    assert secret.startswith("scw_")
    assert len(secret) == len("scw_") + 43
    assert secret not in str(row)
    assert secret.removeprefix("scw_") not in str(row)


def test_a_secret_opens_what_its_token_allows(store, clock):
    secret = access.create(store, "ci", ["write", "read", "read"], actor="lead")

    assert access.check(store, secret) == Token("ci", ("read", "write"), clock.now)


@pytest.mark.parametrize("secret", ["", "scw_", "scw_" + "x" * 43, "\0", "\ud800", "' OR 1=1 --"])
def test_any_other_secret_opens_nothing(store, secret):
    access.create(store, "ci", ["read"], actor="lead")

    assert access.check(store, secret) is None


def test_a_revoked_token_opens_nothing_and_its_name_may_be_used_again(store, clock):
    old = access.create(store, "ci", ["admin"], actor="lead")
    clock.forward(days=1)
    access.revoke(store, "ci", actor="lead")
    revoked = access.tokens(store)

    new = access.create(store, "ci", ["read"], actor="lead")

    assert revoked[0].revoked_at == clock.now
    assert access.check(store, old) is None
    assert access.tokens(store) == [access.check(store, new)]


def test_there_is_a_token_while_one_is_live(store):
    before = access.any_token(store)
    access.create(store, "ci", ["read"], actor="lead")
    during = access.any_token(store)
    access.revoke(store, "ci", actor="lead")

    assert (before, during, access.any_token(store)) == (False, True, False)


def test_tokens_are_created_and_revoked_once_in_the_trail(store):
    access.create(store, "ci", ["read"], actor="lead")
    access.revoke(store, "ci", actor="lead")
    access.revoke(store, "ci", actor="lead")

    trail = [(e.actor, e.act, e.subject, e.detail) for e in audit.entries(store)]
    assert trail == [
        ("lead", "token.created", "ci", '{"scopes":["read"]}'),
        ("lead", "token.revoked", "ci", "{}"),
    ]


@pytest.mark.parametrize(
    ("name", "scopes", "why"),
    [
        ("a b", ["read"], "'a b' cannot name a token"),
        ("who@example.com", ["read"], "cannot name a token"),
        ("", ["read"], "cannot name a token"),
        ("ci\n", ["read"], "cannot name a token"),
        ("ci", ["root"], "there is no scope 'root'; scopes are read, write, admin"),
        ("ci", [], "a token needs a scope"),
    ],
)
def test_a_token_that_cannot_be_is_refused(store, name, scopes, why):
    with pytest.raises(Refused, match=why):
        access.create(store, name, scopes, actor="lead")

    assert access.tokens(store) == []


def test_a_name_in_use_is_a_conflict_and_an_unknown_one_unknown(store):
    access.create(store, "ci", ["read"], actor="lead")

    with pytest.raises(Conflict, match="there is a token ci already; revoke it first"):
        access.create(store, "ci", ["read"], actor="lead")
    with pytest.raises(Unknown, match="there is no token 'cd'"):
        access.revoke(store, "cd", actor="lead")


def answer(store: Store, *call: str) -> None:
    with store.transaction("ci") as writing:
        writing.put([incident(of=call[0])])
        access.remember(writing, *call, 200, '{"stored": 1}')


def test_a_call_that_comes_again_gets_the_answer_it_got(store):
    before = access.recall(store, *CALL)
    answer(store, *CALL)

    assert before is None
    assert access.recall(store, *CALL) == (200, '{"stored": 1}')
    assert access.recall(store, "key-2", *CALL[1:]) is None
    assert access.recall(store, "key-1", "POST /v1/feedback", "body-hash") is None


def test_the_same_key_for_another_body_is_a_conflict(store):
    answer(store, *CALL)

    with pytest.raises(Conflict, match="this Idempotency-Key came with another body before"):
        access.recall(store, "key-1", "POST /v1/incidents", "other-hash")


def test_of_two_equal_calls_at_once_one_acts_and_the_other_is_undone(store):
    store.put([incident(of="before")], actor="test")
    answers = list[str]()

    def call() -> None:
        try:
            answer(store, *CALL)
            answers.append("acted")
        except Conflict:
            answers.append("undone")

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == ["acted", "undone", "undone", "undone"]
    assert store.count()["versions"] == 2


def test_an_answer_is_kept_for_a_day(store, clock):
    answer(store, *CALL)

    clock.forward(hours=23, minutes=59)
    in_time = access.recall(store, *CALL)
    clock.forward(minutes=1)

    assert in_time == (200, '{"stored": 1}')
    assert access.recall(store, *CALL) is None
    answer(store, *CALL)
    assert access.recall(store, *CALL) == in_time


def test_any_bytes_of_a_client_can_be_a_key(store):
    for key in ("", "\0", "\ud800", "k" * 100_000):
        with store.transaction("ci") as writing:
            access.remember(writing, key, f"POST /{key[:9]}", "h", 200, "{}")

        assert access.recall(store, key, f"POST /{key[:9]}", "h") == (200, "{}")
