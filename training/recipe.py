"""The recipe: every number of one training run, in one flat file that can be read and compared."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.errors import Refused

FOLDER = Path(__file__).parent / "recipes"


class Recipe(BaseModel):
    """`shipped` recipes are `recipes/*.toml`; each says what it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seed: int = 0

    rank: int = Field(16, ge=1, le=256)
    alpha_over_rank: float = 2.0
    dropout: float = Field(0.0, ge=0, lt=1)
    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)
    batch: int = Field(16, ge=1)
    micro: int = Field(16, ge=1)
    warmup: float = 0.05
    weight_decay: float = 0.0
    longest: int = Field(1_024, ge=64)
    gradient_checkpointing: bool = False
    four_bit: bool = False
    save_every: int = Field(100, ge=1)

    replay: Literal["balanced", "none"] = "balanced"
    per_base_family: int = 12
    per_adapter_family: int = 20
    context_per_family: int = 8
    choose_per_family: int = 1
    unseen_rehearsed: int = 12
    general: int = 60
    cautions: int = 60
    per_source: int = 5_000

    alphas: tuple[float, ...] = (0.5, 0.7, 0.85, 1.0)
    most_rank: int = 128


def read(name_or_path: str) -> Recipe:
    """A shipped recipe by its name, or one's own by its file."""
    shipped = FOLDER / f"{name_or_path}.toml"
    path = shipped if shipped.is_file() else Path(name_or_path).expanduser()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise Refused(f"there is no recipe {name_or_path}; shipped are {known}") from None
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is not valid TOML: {error}") from None
    try:
        return Recipe(**{"name": path.stem, **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
