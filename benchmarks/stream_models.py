"""What answers the streams: cases as plain lines, and a MiniLM with LoRA and a head that grows.

A case is a set of evidence lines. Clocks, dates, addresses and random names are taken out of them,
or a model answers by the day on which a fault was injected. Every distinct line goes through the
frozen layers once; the adapter (peft, LoRA on the last feed-forward layer) works on what came out,
which makes an epoch cost seconds on one core and changes no result: `whole` proves it. A case is
the mean of its lines, weighted by how rare they are among the cases that are known.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]

MOST_PIECES = 48  # word pieces of a line: what a longer one ends with are identifiers
WIDTH = 384
_LAYER = "encoder.layer.5.output.dense"

# What dates a case, or names one of many equal things, in the order in which it is taken out.
_DATING = [
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?", " "),
        (r"\b\d{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}\b", " "),
        (r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b", " "),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "<ip>"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{4,}", "<id>"),
        (r"[\w.+-]+@[\w.-]+\w", "<mail>"),
        (r"-[0-9a-f]{7,10}(?:-[a-z0-9]{5})?\b", ""),
        (r"\b(?=[A-Z]*\d)[A-Z0-9]{10}\b", "<id>"),
        (r"\b\d+\.\d+", "<x>"),
        (r"\b\d{6,}\b", "<n>"),
    )
]
_NAMED = re.compile(
    r"^(?:deployment ([\w-]+) ready|service ([\w-]+) has|pod ([\w-]+?)-[0-9a-f]{7,10}-"
    r"|log ([\w-]+):|event \w+ (?:pod|replicaset|deployment)/([\w-]+):|alert Service ([\w-]+):)",
    re.MULTILINE,
)


def plain(text: str) -> str:
    """The different lines of a case without what dates it; every workload is called the same."""
    names = {name for found in _NAMED.findall(text) for name in found if name}
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "workload")
    for pattern, instead in _DATING:
        text = pattern.sub(instead, text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(dict.fromkeys(line for line in lines if line))


def line_weights(store: Sequence[str]) -> Callable[[str], float]:
    """How much a line tells, by how few cases of the store hold it; above 0 for every line."""
    held = Counter(line for text in store for line in text.split("\n"))
    return lambda line: max(0.01, float(np.log((len(store) + 1) / (held[line] + 0.5))))


class Lines:
    """Every line of the stream as the frozen layers leave it; no label is looked at."""

    def __init__(self, texts: Sequence[str]) -> None:
        import torch

        self.model, tokenizer = _minilm()
        self.place = {line: n for n, line in enumerate(sorted({*_lines(texts)}))}
        found = [self._through(tokenizer, line) for line in self.place]
        self.inner = torch.cat([inner for inner, _ in found])
        self.beside = torch.cat([beside for _, beside in found])
        self.ends = np.cumsum([len(inner) for inner, _ in found])

    def _through(self, tokenizer: Any, line: str) -> "tuple[torch.Tensor, torch.Tensor]":
        """What enters the adapted layer for each piece of this line, and what is added to it."""
        import torch

        pieces = tokenizer(line, truncation=True, max_length=MOST_PIECES, return_tensors="pt")
        caught: list[Any] = []
        hook = self.model.encoder.layer[5].output.register_forward_pre_hook(
            lambda _, given: caught.append(given)
        )
        with torch.no_grad():
            self.model(**pieces)
        hook.remove()
        inner, beside = caught[0]
        return inner[0], beside[0]

    def pieces(self, place: int) -> slice:
        return slice(int(self.ends[place - 1]) if place else 0, int(self.ends[place]))


def whole(lines: Lines, line: str) -> Floats:
    """The mean of the last layer's states of one line, by the whole model, nothing cached."""
    import torch

    _, tokenizer = _minilm()
    pieces = tokenizer(line, truncation=True, max_length=MOST_PIECES, return_tensors="pt")
    with torch.no_grad():
        states = lines.model(**pieces).last_hidden_state[0]
    mean: Floats = states.mean(0).numpy()
    return mean


@dataclass(frozen=True)
class Tuning:
    """How an era is trained; chosen by cross-validation within the training cases."""

    rank: int = 8
    learning_rate: float = 2e-3
    head_rate: float = 5e-3
    epochs: int = 8
    batch: int = 32
    dropped: float = 0.3  # lines left out of a case each time it is seen
    decay: float = 0.01
    settling: int = 150  # steps of the head alone, before the adapter moves
    share: float = 1.0  # of the era's own change of weights (α)


@dataclass
class Learner:
    """One strategy's model as it stands: the merged change of weights, and the head's rows."""

    lines: Lines
    tuning: Tuning
    seed: int
    answers: list[str] = field(default_factory=list)
    change: Any = None  # (384, 1536)
    rows: Any = None  # (answers, 385): weights and bias
    centre: Any = None
    spread: Any = None

    def learn(self, texts: Sequence[str], answers: Sequence[str], store: Sequence[str]) -> float:
        """One era: the head grows, settles, then moves with a new LoRA; the last loss.

        `store` are the texts by which lines are weighed. The era's adapter is merged by `share`.
        """
        import torch

        torch.manual_seed(self.seed + 1000 * len(self.answers))
        rng = np.random.default_rng([self.seed, len(self.answers)])
        self._grow(answers, texts)
        weigh = line_weights(store)
        wanted = torch.tensor([self.answers.index(a) for a in answers])
        before = self.change.clone()
        adapter, scale = _adapter(self.lines.model, self.tuning.rank)
        done = self._beneath()
        head = self.rows.clone().requires_grad_(True)
        loss = self._settled(head, self._features(texts, weigh, done), wanted)
        loss = self._trained(adapter, scale, head, texts, wanted, weigh, done, rng) or loss
        with torch.no_grad():
            own = scale * (adapter[1].weight @ adapter[0].weight)
            self.change = before + self.tuning.share * own
            self.rows = head.detach()
        if not bool(torch.isfinite(self.change).all() and torch.isfinite(self.rows).all()):
            raise FloatingPointError("the adapter is not finite; nothing of this run is kept")
        return loss

    def embedded(self, texts: Sequence[str], store: Sequence[str]) -> Floats:
        """(texts, 384): the cases as the adapted encoder sees them, centred."""
        import torch

        with torch.no_grad():
            found = self._features(texts, line_weights(store), self._beneath())
        made: Floats = found.numpy()
        return made

    def sure(self, texts: Sequence[str], store: Sequence[str]) -> Floats:
        """(texts, answers): how probable the head takes each answer to be."""
        import torch

        with torch.no_grad():
            features = torch.from_numpy(self.embedded(texts, store))
            made: Floats = (features @ self.rows[:, :-1].T + self.rows[:, -1]).softmax(1).numpy()
        return made

    def _grow(self, answers: Sequence[str], texts: Sequence[str]) -> None:
        import torch

        if self.change is None:
            dense = self.lines.model.encoder.layer[5].output.dense.weight
            self.change, self.rows = torch.zeros_like(dense), torch.zeros(0, WIDTH + 1)
            # By the lines of the first era: what comes later must not move what was learned.
            means = self._line_means(sorted({*_lines(texts)}), self._beneath())
            self.centre, self.spread = means.mean(0), means.std(0)
        new = sorted(set(answers) - set(self.answers))
        self.answers += new
        self.rows = torch.cat([self.rows, torch.zeros(len(new), WIDTH + 1)])

    def _beneath(self) -> "torch.Tensor":
        """Of every piece: what is normalised in the end, before this era's adapter adds to it."""
        import torch
        import torch.nn.functional as F

        dense = self.lines.model.encoder.layer[5].output.dense
        with torch.no_grad():
            made = F.linear(self.lines.inner, dense.weight + self.change, dense.bias)
        return made + self.lines.beside

    def _line_means(
        self, lines: Sequence[str], done: "torch.Tensor", adapter: Any = None, scale: float = 0.0
    ) -> "torch.Tensor":
        import torch

        places = [self.lines.pieces(self.lines.place[line]) for line in lines]
        at = torch.cat([torch.arange(p.start, p.stop) for p in places])
        sums = done[at]
        if adapter is not None:
            down, up = adapter
            sums = sums + scale * up(down(self.lines.inner[at]))
        states = self.lines.model.encoder.layer[5].output.LayerNorm(sums)
        sizes = torch.tensor([p.stop - p.start for p in places])
        owner = torch.repeat_interleave(torch.arange(len(places)), sizes)
        total = torch.zeros(len(places), WIDTH).index_add(0, owner, states)
        means: torch.Tensor = total / sizes[:, None]
        return means

    def _features(
        self,
        texts: Sequence[str],
        weigh: Callable[[str], float],
        done: "torch.Tensor",
        adapter: Any = None,
        scale: float = 0.0,
    ) -> "torch.Tensor":
        import torch

        held = [text.split("\n") for text in texts]
        lines = sorted({line for case in held for line in case})
        column = {line: n for n, line in enumerate(lines)}
        means = self._line_means(lines, done, adapter, scale)
        weights = torch.zeros(len(texts), len(lines))
        for row, case in enumerate(held):
            for line in case:
                weights[row, column[line]] = weigh(line)
        pooled = (weights / weights.sum(1, keepdim=True)) @ means
        features: torch.Tensor = (pooled - self.centre) / self.spread
        return features

    def _settled(self, head: Any, features: "torch.Tensor", wanted: "torch.Tensor") -> float:
        import torch
        import torch.nn.functional as F

        optimizer = torch.optim.AdamW(
            [head], lr=self.tuning.head_rate, weight_decay=self.tuning.decay
        )
        loss = torch.zeros(())
        for _ in range(self.tuning.settling):
            loss = F.cross_entropy(features @ head[:, :-1].T + head[:, -1], wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return float(loss.detach())

    def _trained(
        self,
        adapter: Any,
        scale: float,
        head: Any,
        texts: Sequence[str],
        wanted: "torch.Tensor",
        weigh: Callable[[str], float],
        done: "torch.Tensor",
        rng: np.random.Generator,
    ) -> float:
        import torch
        import torch.nn.functional as F

        t = self.tuning
        steps = t.epochs * -(-len(texts) // t.batch)
        lora = [p for part in adapter for p in part.parameters()]
        optimizer = torch.optim.AdamW(
            [{"params": lora, "lr": t.learning_rate}, {"params": [head], "lr": t.head_rate / 5}],
            weight_decay=t.decay,
        )
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 - n / max(1, steps))
        last = 0.0
        for _ in range(t.epochs):
            order = rng.permutation(len(texts))
            for begun in range(0, len(order), t.batch):
                taken = order[begun : begun + t.batch]
                seen = [_thinned(texts[n], t.dropped, rng) for n in taken]
                features = self._features(seen, weigh, done, adapter, scale)
                scores = features @ head[:, :-1].T + head[:, -1]
                loss = F.cross_entropy(scores, wanted[torch.from_numpy(taken)])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                falling.step()
                last = float(loss.detach())
        return last


def _adapter(model: Any, rank: int) -> tuple[tuple[Any, Any], float]:
    """A fresh LoRA of peft's on the last feed-forward layer: its two halves, and its scale."""
    from copy import deepcopy

    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=[_LAYER])
    adapted: Any = get_peft_model(deepcopy(model), config)
    layer = adapted.base_model.model.encoder.layer[5].output.dense
    return (layer.lora_A["default"], layer.lora_B["default"]), layer.scaling["default"]


def _minilm() -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from retrieval.weights import SHIPPED, find

    disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = find(SHIPPED).folder
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    return model.requires_grad_(False), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _thinned(text: str, dropped: float, rng: np.random.Generator) -> str:
    lines = text.split("\n")
    kept = [line for line in lines if rng.random() >= dropped]
    return "\n".join(kept or lines)


def _lines(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in text.split("\n")]
