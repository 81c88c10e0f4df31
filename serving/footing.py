"""What a turn of the loop stands on: the base and the recipe of the settings, and our prompt.

An adapter fits one base and one prompt. What was begun on other ground is not gone on with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ingest.lessons import taught
from ingest.store import Store
from retrieval.prompt import prompt_hash
from serving.settings import Settings
from training import base, recipe
from training.model import Loaded, load_base
from training.recipe import Recipe
from training.registry import Registered


@dataclass(frozen=True, slots=True)
class Footing:
    """The base by its name and the prompt by its hash, as the journal keeps them."""

    base: str
    prompt: str

    @classmethod
    def of(cls, settings: Settings) -> "Footing":
        """That of these settings; nothing is loaded, and the base may not be there."""
        knobs = settings.training
        if is_offline(settings):
            return cls(base.named(settings.bases).name, prompt_hash())
        return cls(f"{knobs.base}@{knobs.revision}".rstrip("@"), prompt_hash())

    @property
    def told(self) -> dict[str, str]:
        return asdict(self)

    def moved_since(self, detail: Mapping[str, Any]) -> str | None:
        """What has changed since a turn noted its footing in `detail`; None when nothing has."""
        if detail.get("prompt") != self.prompt:
            return "the prompt changed"
        if detail.get("base") != self.base:
            return f"the base changed from {detail.get('base')} to {self.base}"
        return None


def is_offline(settings: Settings) -> bool:
    """Whether the base is the one that is made here."""
    return settings.training.base == base.NAME


def offline(settings: Settings) -> base.Base:
    """The offline base of this data folder. `ModelUnsound` until it is built."""
    return base.opened(base.named(settings.bases))


def loaded_base(settings: Settings, *, four_bit: bool = False) -> Loaded:
    """The base that the settings name, in memory."""
    knobs = settings.training
    name = str(offline(settings).folder) if is_offline(settings) else knobs.base
    return load_base(
        name, revision=knobs.revision, device=knobs.device, dtype=knobs.dtype, four_bit=four_bit
    )


def recipe_of(settings: Settings, named: str | None = None) -> Recipe:
    """The recipe of this name or file, else of the settings, else the one for their base."""
    chosen = named or settings.training.recipe
    if chosen == "auto":
        chosen = "tiny" if is_offline(settings) else "lora"
    return recipe.read(chosen)


def families_of_base(settings: Settings) -> list[str]:
    """The failure families that the base was taught; none of one that somebody else made."""
    return offline(settings).families if is_offline(settings) else []


def dataset_of_base(settings: Settings) -> str | None:
    """The dataset that the base was taught; None of one that somebody else made."""
    return offline(settings).dataset if is_offline(settings) else None


def already_taught(store: Store, settings: Settings, model: Registered | None) -> set[str]:
    """The incidents that this model was taught, or without one the base, and the base in any
    case: what is rehearsed. All others are new to it."""
    names = {dataset_of_base(settings), model.dataset if model else None} - {None}
    return set().union(*(taught(store, str(name)) for name in names))


def apart(model: Registered, base_hash: str) -> str | None:
    """Why this model cannot be asked or gone on from on this base; None when it can."""
    if model.prompt_hash != prompt_hash():
        return f"{model.name} was trained under another prompt"
    if model.base_hash != base_hash:
        return f"{model.name} was trained on another base"
    return None
