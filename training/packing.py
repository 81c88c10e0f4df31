"""Rows of a micro-batch in one sequence: nothing is padding, and no row looks at another.

NotApart                (Refused) this base reads packed rows as one text
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ingest.errors import Refused
from training.batches import IGNORED, Item

_PROBE = 8  # tokens of a row


class NotApart(Refused):
    """This base reads rows that are packed into one sequence as one text."""


def packed(items: Sequence[Item], *, prompt_weight: float = 0.0) -> dict[str, Any]:
    """One batch, (1, tokens) each: `input_ids`, `labels`, and `position_ids`, which begin anew
    with each row; `counted`, (tokens,), are the places of what the loss counts.

    By such positions, and without a mask, transformers tells the rows apart. With a
    `prompt_weight`, `loss_weights` holds that weight for prompts' tokens and 1 for answers'.
    """
    import torch

    ids = torch.tensor([[token for item in items for token in item.ids]])
    positions = torch.cat([torch.arange(len(item.ids)) for item in items])[None]
    starts = accumulate([len(item.ids) for item in items], initial=0)
    labels, weights = torch.full_like(ids, IGNORED), torch.full(ids.shape, prompt_weight)
    for start, item in zip(starts, items, strict=False):
        said = slice(start + item.prompt, start + len(item.ids))
        labels[0, said] = ids[0, said]
        weights[0, said] = 1.0
    # What a row begins with is said by nobody.
    taught = (positions > 0) if prompt_weight else (labels != IGNORED)
    batch = {"input_ids": ids, "position_ids": positions, "labels": labels,
             "counted": taught[0].nonzero()[:, 0]}  # fmt: skip
    return batch | ({"loss_weights": weights} if prompt_weight else {})


def check_apart(model: Any) -> None:
    """Raise `NotApart` when what is said of a row depends on the one packed before it."""
    import torch

    on = next(model.parameters()).device
    positions = torch.arange(_PROBE, device=on).repeat(2)[None]
    after = torch.arange(_PROBE, device=on)
    training = model.training
    model.eval()
    with torch.no_grad():
        one, other = (
            model(input_ids=torch.cat([before, after])[None], position_ids=positions,
                  use_cache=False).logits[0, _PROBE:].float()
            for before in (after, after + _PROBE)
        )  # fmt: skip
    model.train(training)
    if (one - other).abs().max() > 1e-3 * one.abs().max():
        raise NotApart(
            "this base reads rows that are packed into one sequence as one text; "
            "set packing = false in the recipe"
        )
