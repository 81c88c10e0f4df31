"""The recipe: every number of one training run, in one flat file that can be read and compared."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.errors import Refused

FOLDER = Path(__file__).parent / "recipes"

# Of the new ΔW. None of it would be the champion again.
Share = Annotated[float, Field(gt=0, le=1)]


class Recipe(BaseModel):
    """`shipped` recipes are `recipes/*.toml`; each says what it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    seed: int = 0

    rank: int = Field(16, ge=1, le=256)
    alpha_over_rank: float = Field(2.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    learning_rate: float = Field(gt=0)
    epochs: int = Field(ge=1)  # over what is new; what is rehearsed is drawn afresh for each
    batch: int = Field(16, ge=1)
    micro: int = Field(16, ge=1)
    warmup: float = Field(0.05, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    longest: int = Field(1_024, ge=64)
    gradient_checkpointing: bool = False
    # Rows of a micro-batch in one sequence. Unset, it is no part of a run's name.
    packing: bool = Field(False, exclude_if=lambda on: not on)
    four_bit: bool = False
    save_every: int = Field(100, ge=1)

    replay: Literal["balanced", "random", "none"] = "balanced"
    random_share: float = Field(0.25, ge=0)  # of the new rows, where replay is random
    per_base_family: int = Field(12, ge=0)
    per_adapter_family: int = Field(20, ge=0)
    context_per_base_family: int = Field(8, ge=0)
    context_per_adapter_family: int = Field(14, ge=0)
    choose_per_family: int = Field(1, ge=0)
    unseen_rehearsed: int = Field(24, ge=0)
    general: int = Field(60, ge=0)
    cautions: int = Field(60, ge=0)
    per_source: int = Field(5_000, ge=1)

    alphas: tuple[Share, ...] = Field((0.5, 0.7, 0.85, 1.0), min_length=1)
    most_rank: int = Field(128, ge=1)


def read(name_or_path: str) -> Recipe:
    """A shipped recipe by its name, or one's own by its file."""
    shipped = FOLDER / f"{name_or_path}.toml"
    path = shipped if shipped.is_file() else Path(name_or_path).expanduser()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise Refused(f"there is no recipe {name_or_path}; shipped are {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is not valid TOML: {error}") from None
    try:
        return Recipe(**{"name": path.stem, **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
