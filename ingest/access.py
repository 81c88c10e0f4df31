"""Who may call, and which call was answered before: tokens and idempotency keys."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import Row, Select, delete, exists, insert, select, update

from ingest import schema
from ingest.errors import Conflict, Refused, Unknown
from ingest.incident import visible
from ingest.store import Store
from ingest.writing import Writing

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KEPT_FOR = timedelta(hours=24)

# Nothing that a person's data could be in, so that a name can be logged and audited.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_token, _reply = schema.token, schema.idempotency


@dataclass(frozen=True, slots=True)
class Token:
    """What a secret allows; the secret itself is kept nowhere."""

    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    revoked_at: datetime | None = None


def create(store: Store, name: str, scopes: Iterable[str], *, actor: str) -> str:
    """A new secret, to be shown this once; a revoked token's name may be used again.

    Raises `Refused` for a name or scopes that cannot be, `Conflict` for a name in use.
    """
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{visible(name)!r} cannot name a token; use up to 64 of A-Z a-z 0-9 . _ - "
            "and start with a letter or digit"
        )
    allowed = _scopes(scopes)
    secret = f"scw_{secrets.token_urlsafe(32)}"
    with store.transaction(actor) as writing:
        before = select(_token).where(_token.c.name == name)
        held = writing.connection.execute(before).one_or_none()
        if held and held.revoked_at is None:
            raise Conflict(f"there is a token {name} already; revoke it first, or name another")
        writing.connection.execute(delete(_token).where(_token.c.name == name))
        row = {"name": name, "scopes": allowed, "sha256": _sha256(secret)}
        writing.connection.execute(insert(_token).values(**row, created_at=writing.now))
        writing.record("token.created", name, scopes=allowed)
    return secret


def check(store: Store, secret: str) -> Token | None:
    """The live token of this secret, or None."""
    digest = _sha256(secret)
    live = select(_token).where(_token.c.sha256 == digest, _token.c.revoked_at.is_(None))
    with store.reading() as connection:
        row = connection.execute(live).one_or_none()
    # What is looked up by is a hash, so the time it takes tells nothing of the secret.
    return _as_token(row) if row and hmac.compare_digest(row.sha256, digest) else None


def tokens(store: Store) -> list[Token]:
    """Every token, revoked ones too, by name."""
    by_name = select(_token).order_by(_token.c.name)
    with store.reading() as connection:
        return [_as_token(row) for row in connection.execute(by_name)]


def revoke(store: Store, name: str, *, actor: str) -> None:
    """Make a token useless from now on. Raises `Unknown`."""
    named = _token.c.name == visible(name)
    with store.transaction(actor) as writing:
        held = writing.connection.execute(select(_token).where(named)).one_or_none()
        if held is None:
            raise Unknown(f"there is no token {visible(name)!r}; `scarwise token list` shows them")
        if held.revoked_at:
            return
        writing.connection.execute(update(_token).where(named).values(revoked_at=writing.now))
        writing.record("token.revoked", held.name)


def any_token(store: Store) -> bool:
    """Whether anybody holds a live token."""
    live = select(exists().where(_token.c.revoked_at.is_(None)))
    with store.reading() as connection:
        return bool(connection.execute(live).scalar())


def remember(
    writing: Writing, key: str, route: str, body_sha256: str, status: int, response: str
) -> None:
    """Keep the answer to this call for a day, in the transaction of what the call did.

    Raises `Conflict` when the same call came twice at once and the other was quicker, so that
    this one is undone: sent again, it gets the other's answer. The response is kept as it is;
    what is in it must be safe to keep.
    """
    writing.connection.execute(delete(_reply).where(_reply.c.at <= writing.now - KEPT_FOR))
    if writing.connection.execute(_answered(key, route)).one_or_none():
        raise Conflict("a call with this Idempotency-Key was answered just now; send it again")
    row = {"key_sha256": _sha256(key), "route": visible(route), "body_sha256": body_sha256}
    kept = insert(_reply).values(**row, status=status, response=response, at=writing.now)
    writing.connection.execute(kept)


def recall(store: Store, key: str, route: str, body_sha256: str) -> tuple[int, str] | None:
    """The (status, response) that this call was answered with in the last day, or None.

    Raises `Conflict` when the key came with another body then.
    """
    in_time = _answered(key, route).where(_reply.c.at > store.clock() - KEPT_FOR)
    with store.reading() as connection:
        row = connection.execute(in_time).one_or_none()
    if row is None:
        return None
    if row.body_sha256 != body_sha256:
        raise Conflict("this Idempotency-Key came with another body before; make a new key")
    return row.status, row.response


def _answered(key: str, route: str) -> Select[Any]:
    named = (_reply.c.key_sha256 == _sha256(key)) & (_reply.c.route == visible(route))
    return select(_reply).where(named)


def _scopes(asked: Iterable[str]) -> list[str]:
    given = set(asked)
    unknown = sorted(given - set(SCOPES))
    if unknown or not given:
        named = f"there is no scope {unknown[0]!r}" if unknown else "a token needs a scope"
        raise Refused(f"{named}; scopes are {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in given]


def _as_token(row: Row[Any]) -> Token:
    return Token(row.name, tuple(row.scopes), row.created_at, row.revoked_at)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
