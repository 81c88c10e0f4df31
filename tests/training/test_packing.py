import pytest
import torch
import transformers

from tests.training import fits, shapes, tiny
from tests.training.shapes import FAMILIES
from training import fit
from training.batches import IGNORED, Item, padded
from training.packing import NotApart, check_apart, packed

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = [
    Item([5, 6, 7, 8, 9], 3, 0, lost=False),
    Item([15, 16], 1, 0, lost=False),
    Item(list(range(20, 110)), 60, 0, lost=False),  # longer than a sliding window
    Item([11, 12, 13, 14, 11, 12, 13], 2, 0, lost=False),
]


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory):
    return shapes.base(request.param, tmp_path_factory.mktemp("base") / request.param)


def learned(model, batch) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of the product's training, and the gradient of every trained weight."""
    model.zero_grad()
    loss = fit._loss(model, batch, 59)
    loss.backward()
    return float(loss.detach()), {n: w.grad for n, w in model.named_parameters() if w.requires_grad}


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_packed_rows_give_the_loss_and_the_gradients_of_padded_ones(base, weight):
    model = fits.learner(base, dropout=0.0)
    for name, lora in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(lora, std=0.1)
    apart = padded(ROWS, 0, prompt_weight=weight)
    apart.pop("attention_mask")
    apart["counted"] = 1

    one, gradients = learned(model, apart)
    other, others = learned(model, packed(ROWS, prompt_weight=weight))

    assert other == pytest.approx(one, rel=1e-5)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=1e-3, atol=1e-6), name


def test_a_packed_batch_has_no_padding_and_its_positions_begin_anew():
    batch = packed(ROWS[:2])

    assert {k: v.tolist() for k, v in batch.items()} == {
        "input_ids": [[5, 6, 7, 8, 9, 15, 16]],
        "position_ids": [[0, 1, 2, 3, 4, 0, 1]],
        "labels": [[IGNORED, IGNORED, IGNORED, 8, 9, IGNORED, 16]],
        "counted": [3, 4, 6],
    }


def test_a_fit_with_packing_ends_as_one_without(tmp_path):
    base = tiny.base(tmp_path / "base")
    ends = []
    for packing in (False, True):
        model, told = fits.fitted(
            base, tmp_path / str(packing), model=fits.learner(base, dropout=0.0), packing=packing
        )
        ends.append((model.state_dict(), told))

    (one, padded_told), (other, packed_told) = ends
    assert packed_told.tokens == padded_told.tokens
    assert packed_told.loss == pytest.approx(padded_told.loss, rel=1e-3)
    assert all(torch.allclose(one[name], other[name], atol=1e-3) for name in one)


def test_a_base_that_would_read_packed_rows_as_one_text_is_refused(base, tmp_path):
    config = transformers.Lfm2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, layer_types=["conv", "full_attention"],
        initializer_range=0.2,
    )  # fmt: skip
    mixing = transformers.Lfm2ForCausalLM(config)

    check_apart(fits.learner(base))
    with pytest.raises(NotApart, match="packing = false"):
        check_apart(mixing)
