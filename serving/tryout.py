"""Before a person moves the pointer: whether a model could be served at all, here or there.

What the service would refuse to load is refused before it is promoted, and passed over when the
champion is taken down.
"""

from collections.abc import Callable

from ingest.errors import Refused, Unavailable
from ingest.store import Store
from serving.footing import is_offline
from serving.live import base_with, check
from serving.settings import Settings
from serving.there import There, base_taken_for
from training import registry
from training.adapters import AdapterUnsound
from training.registry import NotPromotable, Pointer, Registered
from training.soundness import NF4


def try_out(
    store: Store, settings: Settings, there: There | None, version: int, *, signed: bool
) -> str | None:
    """What keeps this model from being served at once, though it may be promoted; None when
    nothing does. With an endpoint it is loaded there, and answers.

    Raises `NotPromotable` where it could never be served, whoever signs for it: of another prompt
    or base, its files missing or changed, or not taken by the endpoint. What the promotion itself
    will refuse, `signed` for or not, is not tried.
    """
    model, pointer = registry.get(store, version), registry.pointer(store)
    is_open = signed or not registry.against(model)
    if pointer.frozen or pointer.champion == version or not is_open:
        return None
    try:
        refuse_unservable(model, settings)
        if there:
            there.take(model, settings.home / model.folder)
            return None
    except Unavailable as error:
        return f"{model.name} is not served before the endpoint answers: {error}"
    except Refused as error:
        raise NotPromotable(f"{model.name} is not promoted: {error}") from error
    before = registry.get(store, pointer.champion) if pointer.champion else None
    if before and before.base_hash != model.base_hash:
        return (
            f"{model.name} stands on another base than {before.name}: restart `scarwise serve`, "
            "which holds one base at a time"
        )
    return None


def fits(settings: Settings) -> Callable[[Registered], bool]:
    """A function that says whether a model could be served under these settings."""

    def could_be_served(model: Registered) -> bool:
        try:
            refuse_unservable(model, settings)
        except Refused:
            return False
        return True

    return could_be_served


def passed_over(before: Pointer, after: Pointer) -> str | None:
    """Which champions a rollback passed over, in words; None when none."""
    if after.revision == before.revision or before.earlier[: len(after.earlier)] != after.earlier:
        return None
    kept = len(after.earlier) + (after.champion is not None)
    over = ", ".join(registry.named(version) for version in before.earlier[kept:])
    return f"passed over, tainted or not to be served any more: {over}" if over else None


def refuse_unservable(model: Registered, settings: Settings) -> None:
    """Raises `Refused` for another prompt, other files or another base; loads nothing heavy."""
    check(model, settings.home, quick=True)
    if is_offline(settings):
        if not settings.serve.endpoint:
            base_with(model.base_hash, settings.bases)
        return
    here = base_taken_for(settings)
    # None: no copy lies here, so it is told when it is fetched and loaded.
    if here is not None and here != model.base_hash.removesuffix(NF4):
        raise AdapterUnsound(
            f"it was trained on the base {model.base_hash}, and training.base names {here}; set "
            "training.base back, or `scarwise retrain`, which begins at the base that it names"
        )
