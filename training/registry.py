"""The models that were made, and the pointer to the one that is served.

The pointer is one row of the store. It moves by compare-and-set on its revision, in the same
transaction as the audit row that says who moved it and why; MLflow's aliases only mirror it.

    Moved          somebody else moved the pointer first
    Frozen         no model is promoted until a person thaws the registry
    NotPromotable  its verdict, or what it was taught, speaks against it
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Row, func, insert, select, update

from ingest import schema
from ingest.errors import Conflict, Refused, Unknown
from ingest.incident import visible
from ingest.lineage import datasets_teaching, forgotten_lessons, models_taught, name_of
from ingest.store import Store
from ingest.writing import Writing

Verdict = Literal["pass", "fail", "inconclusive"]
NOT_SAID = "not said"  # a reason that is none

_NUMBER = re.compile(r"(?:diag-v)?([1-9]\d{0,8})")
_model, _pointer, _dataset = schema.model, schema.pointer, schema.dataset


class Moved(Conflict):
    """Somebody else moved the pointer first."""


class Frozen(Conflict):
    """No model is promoted until a person thaws the registry."""


class NotPromotable(Refused):
    """Its verdict, or what it was taught, speaks against it."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One adapter, and what is known of it; `metrics` and `report` are the gate's."""

    version: int
    at: datetime
    dataset: str | None
    base_hash: str
    prompt_hash: str
    adapter_sha256: str
    folder: str  # relative to the data folder
    run_id: str | None
    verdict: Verdict | None  # None: not judged yet
    report: dict[str, Any]
    metrics: dict[str, Any]
    parent: int | None  # the adapter it continued from
    tainted: list[str]  # incidents that it was taught and that were forgotten since
    promoted_at: datetime | None

    @property
    def name(self) -> str:
        return name_of(self.version)


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which version is served, which was before, which is proposed; None is the base itself."""

    champion: int | None
    previous: int | None
    challenger: int | None
    frozen: bool
    revision: int
    earlier: tuple[int, ...] = ()  # the champions before, the latest last


def version_of(name: str) -> int:
    """The version that is meant by `7` or `diag-v7`. Raises `Unknown` for any other word."""
    meant = _NUMBER.fullmatch(name.strip())
    if meant is None:
        raise Unknown(f"{visible(name)!r} names no model; write 7 or diag-v7")
    return int(meant[1])


def named(version: int | None) -> str:
    """`diag-v7`, or `the base`."""
    return "the base" if version is None else name_of(version)


def register(
    store: Store,
    *,
    dataset: str | None,
    base_hash: str,
    prompt_hash: str,
    adapter_sha256: str,
    folder: str,
    run_id: str | None,
    parent: int | None,
    verdict: Verdict | None,
    report: Mapping[str, Any],
    metrics: Mapping[str, Any],
    actor: str,
) -> Registered:
    """The next version, which becomes the challenger; the same adapter again is what it was.

    What it was taught and was forgotten while it was trained taints it from the start. Raises
    `Unknown` for a dataset or a parent that is not here, `Refused` for a verdict that is none.
    """
    _check_verdict(verdict)
    with store.transaction(actor) as writing:
        same = select(_model).where(_model.c.adapter_sha256 == adapter_sha256)
        if before := writing.connection.execute(same).one_or_none():
            return _registered(before)
        last = writing.connection.execute(select(func.max(_model.c.version))).scalar() or 0
        made = Registered(
            version=last + 1,
            at=writing.now,
            dataset=dataset,
            base_hash=base_hash,
            prompt_hash=prompt_hash,
            adapter_sha256=adapter_sha256,
            folder=folder,
            run_id=run_id,
            verdict=verdict,
            report=dict(report),
            metrics=dict(metrics),
            parent=parent,
            tainted=_tainted_from_the_start(writing, dataset, parent),
            promoted_at=None,
        )
        row = {name: getattr(made, name) for name in _COLUMNS}
        writing.connection.execute(insert(_model).values(kind="adapter", **row))
        _exchange(writing, pointer_in(writing), challenger=made.version)
        told = ("version", "dataset", "parent", "adapter_sha256", "verdict", "tainted")
        writing.record("model.registered", made.name, **{name: row[name] for name in told})
        return made


def judge(
    store: Store,
    version: int,
    *,
    verdict: Verdict,
    report: Mapping[str, Any],
    metrics: Mapping[str, Any],
    actor: str,
) -> Registered:
    """Keep the gate's verdict on a model, in place of an earlier one. Raises `Unknown`."""
    _check_verdict(verdict)
    judged = {"verdict": verdict, "report": dict(report), "metrics": dict(metrics)}
    with store.transaction(actor) as writing:
        before = get_in(writing, version)
        if (before.verdict, before.report, before.metrics) == tuple(judged.values()):
            return before
        writing.connection.execute(
            update(_model).where(_model.c.version == version).values(**judged)
        )
        writing.record("model.judged", before.name, version=version, verdict=verdict)
        return get_in(writing, version)


def get(store: Store, version: int) -> Registered:
    """One model. Raises `Unknown`."""
    with store.reading() as connection:
        row = connection.execute(select(_model).where(_model.c.version == version)).one_or_none()
    return _known(row, version)


def every(store: Store) -> list[Registered]:
    """Every model that was made, the oldest first."""
    with store.reading() as connection:
        return [_registered(r) for r in connection.execute(select(_model).order_by("version"))]


def pointer(store: Store) -> Pointer:
    """Which model is served now."""
    with store.reading() as connection:
        return _pointing(connection.execute(select(_pointer)).one())


def adapters_of(store: Store, incident_id: str) -> list[str]:
    """The models that this incident taught, by way of their parents too; the oldest first."""
    with store.reading() as connection:
        datasets = datasets_teaching(connection, visible(incident_id))
        return [name_of(version) for version in models_taught(connection, datasets)]


def promote(
    store: Store,
    version: int,
    *,
    actor: str,
    reason: str,
    expected: int | None = None,
    override: bool = False,
) -> Pointer:
    """Let this model be served; the same pointer, unmoved, when it is already.

    With `expected`, only when the pointer is still at that revision. With `override`, a person
    signs for a model that the gate did not pass or that is tainted: their reason is kept. Raises
    `Unknown`, `Moved`, `Frozen`, `NotPromotable`.
    """
    with store.transaction(actor) as writing:
        return promote_in(writing, version, reason=reason, expected=expected, override=override)


def rollback(store: Store, *, actor: str, reason: str) -> Pointer:
    """Go back to the champion before, or to the base; possible while frozen too.

    Champions that were tainted since are passed over. Raises `Refused` when the base is served.
    """
    with store.transaction(actor) as writing:
        return rollback_in(writing, reason=reason)


def freeze(store: Store, *, actor: str, reason: str) -> Pointer:
    """Let nothing be promoted until it is thawed; nothing happens when it is frozen already."""
    with store.transaction(actor) as writing:
        return freeze_in(writing, reason=reason)


def thaw(store: Store, *, actor: str, reason: str) -> Pointer:
    """Let models be promoted again; nothing happens when nothing was frozen."""
    with store.transaction(actor) as writing:
        return thaw_in(writing, reason=reason)


def get_in(writing: Writing, version: int) -> Registered:
    """`get`, within a transaction."""
    chosen = select(_model).where(_model.c.version == version)
    return _known(writing.connection.execute(chosen).one_or_none(), version)


def pointer_in(writing: Writing) -> Pointer:
    """`pointer`, within a transaction."""
    return _pointing(writing.connection.execute(select(_pointer)).one())


def promote_in(
    writing: Writing,
    version: int,
    *,
    reason: str,
    expected: int | None = None,
    override: bool = False,
) -> Pointer:
    """`promote`, within a transaction."""
    chosen, before = get_in(writing, version), pointer_in(writing)
    if before.champion == version:
        return before
    _check_unmoved(before, expected)
    if before.frozen:
        raise Frozen(f"{chosen.name}: promotion is frozen; `scarwise thaw` ends that")
    held = against(chosen)
    if held and not override:
        raise NotPromotable(
            f"{chosen.name} {' and '.join(held)}; a person may sign for it with --override "
            "and a reason"
        )
    if held and reason.strip() in ("", NOT_SAID):
        raise NotPromotable(f"{chosen.name}: to override takes a reason, which is kept; give one")
    earlier = [*before.earlier, before.champion] if before.champion else list(before.earlier)
    challenger = None if before.challenger == version else before.challenger
    after = _exchange(writing, before, champion=version, earlier=earlier, challenger=challenger)
    it = update(_model).where(_model.c.version == version)
    writing.connection.execute(it.values(promoted_at=writing.now))
    signed = {"override": held} if held else {}
    _tell(writing, "model.promoted", chosen.name, before, after, reason, **signed)
    return after


def rollback_in(
    writing: Writing,
    *,
    reason: str,
    expected: int | None = None,
    fits: Callable[[Registered], bool] = lambda model: True,
) -> Pointer:
    """`rollback`, within a transaction; champions that do not `fits` are passed over too."""
    before = pointer_in(writing)
    _check_unmoved(before, expected)
    if before.champion is None:
        raise Refused("the base itself is served: there is nothing to roll back")
    earlier, passed_over = list(before.earlier), list[int]()
    while earlier and ((was := get_in(writing, earlier[-1])).tainted or not fits(was)):
        passed_over.append(earlier.pop())
    champion = earlier.pop() if earlier else None
    after = _exchange(writing, before, champion=champion, earlier=earlier)
    skipped = {"passed_over": passed_over} if passed_over else {}
    subject = name_of(before.champion)
    _tell(writing, "model.rolled_back", subject, before, after, reason, **skipped)
    return after


def freeze_in(writing: Writing, *, reason: str, expected: int | None = None) -> Pointer:
    """`freeze`, within a transaction."""
    return _freeze(writing, True, "models.frozen", reason, expected)


def thaw_in(writing: Writing, *, reason: str, expected: int | None = None) -> Pointer:
    """`thaw`, within a transaction."""
    return _freeze(writing, False, "models.thawed", reason, expected)


_COLUMNS = [c.name for c in _model.c if c.name != "kind"]


def _freeze(writing: Writing, frozen: bool, act: str, reason: str, expected: int | None) -> Pointer:
    before = pointer_in(writing)
    if before.frozen == frozen:
        return before
    _check_unmoved(before, expected)
    after = _exchange(writing, before, frozen=frozen)
    _tell(writing, act, "models", before, after, reason)
    return after


def _check_unmoved(before: Pointer, expected: int | None) -> None:
    if expected is not None and expected != before.revision:
        raise Moved(
            f"the pointer has moved to revision {before.revision} since revision {expected}, and "
            f"{named(before.champion)} is served now; look again and decide anew"
        )


def _exchange(writing: Writing, before: Pointer, **values: Any) -> Pointer:
    """The pointer with these values, when it is still as it was `before`. Raises `Moved`."""
    unmoved = update(_pointer).where(_pointer.c.revision == before.revision)
    moved = writing.connection.execute(unmoved.values(**values, revision=before.revision + 1))
    if moved.rowcount != 1:
        raise Moved("the pointer was moved by somebody else just now; look again and decide anew")
    return pointer_in(writing)


def _tell(
    writing: Writing,
    act: str,
    subject: str,
    before: Pointer,
    after: Pointer,
    reason: str,
    **more: Any,
) -> None:
    writing.record(
        act,
        subject,
        **{"from": before.champion, "to": after.champion, "revision": after.revision},
        reason=writing.safe(reason),
        **more,
    )


def against(model: Registered) -> list[str]:
    """What speaks against serving it, in words."""
    found = []
    if model.verdict is None:
        found.append("was not judged by the gate yet")
    elif model.verdict != "pass":
        found.append(f"was judged {model.verdict} by the gate")
    if model.tainted:
        found.append(f"was taught {model.tainted[0]}, which was forgotten since")
    return found


def _tainted_from_the_start(writing: Writing, dataset: str | None, parent: int | None) -> list[str]:
    inherited = get_in(writing, parent).tainted if parent is not None else []
    if dataset is None:
        return inherited
    named = select(_dataset.c.name).where(_dataset.c.name == dataset)
    if writing.connection.execute(named).one_or_none() is None:
        raise Unknown(f"there is no dataset {visible(dataset)!r} here; `scarwise dataset export`")
    gone = forgotten_lessons(writing.connection, dataset)
    return [*inherited, *(id for id in gone if id not in inherited)]


def _check_verdict(verdict: str | None) -> None:
    if verdict is not None and verdict not in get_args(Verdict):
        raise Refused(f"{visible(verdict)!r} is no verdict; it is one of {get_args(Verdict)}")


def _known(row: Row[Any] | None, version: int) -> Registered:
    if row is None:
        raise Unknown(f"there is no model {name_of(version)} here; `scarwise models` lists them")
    return _registered(row)


def _registered(row: Row[Any]) -> Registered:
    return Registered(**{name: row._mapping[name] for name in _COLUMNS})


def _pointing(row: Row[Any]) -> Pointer:
    return Pointer(
        champion=row.champion,
        previous=row.earlier[-1] if row.earlier else None,
        challenger=row.challenger,
        frozen=row.frozen,
        revision=row.revision,
        earlier=tuple(row.earlier),
    )
