"""What goes on in a fit: its curve, what it cost, and which of its steps are not to be trusted.

It is kept with every checkpoint, so that a resumed run judges its next step, and tells its curve,
as the uninterrupted one would have.
"""

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

log = logging.getLogger(__name__)

STRIKES = 3
SETTLED = 20  # steps before a norm can be called unusual
SPIKE = 10.0  # times the running median of the gradient's norm
KEPT = "watch.json"


@dataclass(frozen=True, slots=True)
class Step:
    """How far a fit is: `left_s` guesses from the steps so far."""

    step: int
    steps: int
    loss: float
    tokens_per_s: float
    left_s: float


class Watch:
    """One fit as it goes; `tokens`, `curve`, `skipped`, `cpu_s` and `wall_s` are of all of it,
    the part before a resume too."""

    def __init__(self, micro: int, progress: Callable[[Step], None] | None) -> None:
        self.micro = micro
        self.tokens = 0
        self.curve: list[dict[str, float]] = []
        self.skipped: list[dict[str, Any]] = []
        self.diverged: str | None = None
        # Of the step that is being made:
        self.bad_loss = False
        self.norm = 0.0
        self.fresh = 0  # tokens
        self._progress = progress
        self._names: list[str] = []
        self._strikes = 0
        self._norms: deque[float] = deque(maxlen=50)
        # What came before this process: tokens, steps, CPU and wall seconds.
        self._before = (0, 0, 0.0, 0.0)
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def cpu_s(self) -> float:
        return self._before[2] + time.process_time() - self._cpu

    @property
    def wall_s(self) -> float:
        return self._before[3] + time.perf_counter() - self._wall

    def saw(self, names: Sequence[str], tokens: int, loss: float) -> None:
        """One micro-batch went through the model."""
        self.fresh += tokens
        self._names += names
        self.bad_loss |= not math.isfinite(loss)

    def before_step(self, model: Any, step: int) -> None:
        """Skip this step when its loss or its gradients cannot be trusted."""
        why = self._flaw()
        if why:
            self.skipped.append({"step": step, "why": why, "rows": list(self._names)})
            log.warning("fit.skipped step=%d why=%r rows=%s", step, why, self._names[:4])
            # Without gradients the optimizer leaves weights and moments as they are.
            for weight in model.parameters():
                weight.grad = None
        else:
            self._norms.append(self.norm)
        self._strikes = self._strikes + 1 if why else 0
        if self._strikes >= STRIKES:
            named = ", ".join(dict.fromkeys(n for s in self.skipped[-STRIKES:] for n in s["rows"]))
            self.diverged = (
                f"{STRIKES} steps in a row had a {why}; nothing of this run is kept. "
                f"Look at rows {named[:200]}, or lower the recipe's learning_rate"
            )
        self.tokens += self.fresh
        self._names, self.bad_loss, self.fresh = [], False, 0

    def _flaw(self) -> str | None:
        if self.bad_loss:
            return "loss that is not finite"
        if not math.isfinite(self.norm):
            return "gradient that is not finite"
        usual = median(self._norms) if len(self._norms) >= SETTLED else math.inf
        if self.norm > SPIKE * usual:
            return f"gradient of norm {self.norm:.3g} where {usual:.3g} is usual"
        return None

    def logged(self, step: int, steps: int, logs: dict[str, Any]) -> None:
        """A point of the curve; `logs` is the Trainer's."""
        if "loss" not in logs:
            return
        tokens, begun, _, _ = self._before
        took = time.perf_counter() - self._wall
        rate = (self.tokens - tokens) / took if took else 0.0
        point = {"step": step, "loss": float(logs["loss"]), "tokens_per_s": round(rate, 1)}
        point |= {k: float(logs[k]) for k in ("grad_norm", "learning_rate") if k in logs}
        self.curve.append({k: v for k, v in point.items() if math.isfinite(v)})
        if self._progress:
            each = took / max(1, step - begun)
            self._progress(Step(step, steps, point["loss"], rate, each * (steps - step)))

    def keep(self, checkpoint: Path) -> None:
        """Write all this into the checkpoint's folder."""
        told = {"micro": self.micro, "tokens": self.tokens, "cpu_s": self.cpu_s,
                "wall_s": self.wall_s, "strikes": self._strikes, "norms": list(self._norms),
                "skipped": self.skipped, "curve": self.curve}  # fmt: skip
        (checkpoint / KEPT).write_text(json.dumps(told), encoding="utf-8")

    def resume(self, checkpoint: Path) -> None:
        """Go on from what was kept there."""
        told = read(checkpoint)
        self.tokens, self.curve, self.skipped = told["tokens"], told["curve"], told["skipped"]
        self._strikes = told["strikes"]
        self._norms.extend(told["norms"])
        self._before = (self.tokens, step_of(checkpoint), told["cpu_s"], told["wall_s"])


def read(checkpoint: Path) -> dict[str, Any]:
    """What was kept with this checkpoint."""
    told: dict[str, Any] = json.loads((checkpoint / KEPT).read_text(encoding="utf-8"))
    return told


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
