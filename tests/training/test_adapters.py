import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training import tiny
from training import adapters, model
from training.adapters import AdapterUnsound, compressed, interpolated, seal, verify
from training.model import fingerprint, generate

BASE, PROMPT = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.base(tmp_path_factory.mktemp("base") / "qwen")


@pytest.fixture(scope="module")
def loaded(base):
    return tiny.loaded(base)


@pytest.fixture(scope="module")
def pair(base, tmp_path_factory):
    """A challenger and a champion, of different ranks."""
    place = tmp_path_factory.mktemp("pair")
    new = tiny.adapter(base, place / "new", seed=1, rank=4)
    return new, tiny.adapter(base, place / "old", seed=2, rank=6)


@pytest.fixture
def sealed(pair, tmp_path):
    """An adapter to damage, sealed for `BASE` and `PROMPT`."""
    place = tmp_path / "diag-v7"
    shutil.copytree(pair[0], place)
    seal(place, base_hash=BASE, prompt_hash=PROMPT, dataset="ds-1", parent="diag-v6", alpha=0.7)
    return place


def rewritten(folder, change) -> None:
    """Other weights in the file."""
    path = folder / adapters.WEIGHTS
    held = load_file(path)
    change(held)
    save_file(held, path, metadata={"format": "pt"})


def resealed(folder, **instead) -> None:
    """A manifest that agrees with whatever lies in the folder, as an attacker would write it."""
    path = folder / adapters.MANIFEST
    told = json.loads(path.read_text())
    files = {n: adapters._sha256(folder / n) for n in told["files"]}
    path.write_text(json.dumps({**told, "files": files, **instead}))


def one_byte_flipped(folder) -> None:
    path = folder / adapters.WEIGHTS
    held = bytearray(path.read_bytes())
    held[-7] ^= 1
    path.write_bytes(held)


def truncated(folder) -> None:
    path = folder / adapters.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def truncated_and_resealed(folder) -> None:
    truncated(folder)
    resealed(folder)


def a_tensor_missing(folder) -> None:
    rewritten(folder, lambda held: held.pop(sorted(held)[3]))
    resealed(folder)


def a_tensor_more(folder) -> None:
    rewritten(folder, lambda held: held.update(extra=torch.ones(1)))
    resealed(folder)


def not_a_number(folder) -> None:
    rewritten(folder, lambda held: held[sorted(held)[0]].view(-1)[0].fill_(math.nan))
    resealed(folder)


def doing_nothing(folder) -> None:
    rewritten(folder, lambda held: [t.zero_() for n, t in held.items() if "lora_B" in n])
    resealed(folder)


def other_rank(folder) -> None:
    path = folder / adapters.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "r": 99}))


def names(name):
    def rename(folder) -> None:
        resealed(folder, files={name: "0" * 64})

    return rename


BAD = [
    ("one byte", one_byte_flipped, r"adapter_model\.safetensors is not what was sealed"),
    ("truncated", truncated, r"adapter_model\.safetensors is not what was sealed"),
    ("resealed", truncated_and_resealed, r"adapter_model\.safetensors cannot be read"),
    ("configuration", other_rank, r"adapter_config\.json is not what was sealed"),
    ("no weights", lambda f: (f / adapters.WEIGHTS).unlink(), "is not what was sealed"),
    ("no seal", lambda f: (f / adapters.MANIFEST).unlink(), r"has no sound manifest\.json"),
    ("half a seal", lambda f: (f / adapters.MANIFEST).write_text('{"fi'), "cannot be read"),
    ("binary seal", lambda f: (f / adapters.MANIFEST).write_bytes(b"\xff"), "cannot be read"),
    ("empty seal", lambda f: resealed(f, files={}), "does not name adapter_config.json"),
    ("path in the seal", names("../x"), "does not name adapter_config.json"),
    ("a pickle", lambda f: (f / "adapter_model.bin").touch(), r"pickled files \(adapter_model"),
    ("tensor missing", a_tensor_missing, r"its tensors changed, the first .*lora_B"),
    ("tensor more", a_tensor_more, "its tensors changed, the first extra"),
    ("not a number", not_a_number, "holds numbers that are not finite"),
    ("zero", doing_nothing, "does nothing: every B is zero"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_an_adapter_that_is_not_what_was_sealed_gets_one_line(sealed, damage, said):
    damage(sealed)

    with pytest.raises(AdapterUnsound, match=said) as raised:
        verify(sealed, BASE, PROMPT)

    assert str(raised.value).startswith("adapter diag-v7")
    assert "\n" not in str(raised.value)


def test_an_adapter_of_another_base_or_prompt_is_named_as_such(sealed):
    with pytest.raises(AdapterUnsound, match=f"belongs to base {BASE}, and this base is other"):
        verify(sealed, "other", PROMPT)
    with pytest.raises(AdapterUnsound, match=f"under prompt {PROMPT}, .* is other now; retrain"):
        verify(sealed, BASE, "other")


def test_a_sound_adapter_tells_what_it_is(sealed):
    told = verify(sealed, BASE, PROMPT)

    assert told == adapters.manifest(sealed)
    assert (told.rank, told.alpha, told.energy) == (4, 0.7, 1.0)
    assert (told.dataset, told.parent) == ("ds-1", "diag-v6")
    assert told.keys == sorted(load_file(sealed / adapters.WEIGHTS))
    assert told.sha256 == told.files["adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (not_a_number, "not finite"),
        (doing_nothing, "does nothing"),
        (lambda f: rewritten(f, dict.clear), "holds no LoRA"),
        (lambda f: (f / adapters.CONFIG).unlink(), r"no sound adapter_config\.json"),
    ],
)
def test_what_is_broken_is_never_sealed(sealed, change, said):
    change(sealed)
    (sealed / adapters.MANIFEST).unlink()

    with pytest.raises(AdapterUnsound, match=said):
        seal(sealed, base_hash=BASE, prompt_hash=PROMPT, dataset=None, parent=None)

    assert not (sealed / adapters.MANIFEST).exists()


def deltas(folder) -> dict[str, torch.Tensor]:
    """ΔW of every layer, from the file and the configuration alone."""
    told = json.loads((folder / adapters.CONFIG).read_text())
    held = load_file(folder / adapters.WEIGHTS)
    scale = told["lora_alpha"] / told["r"]
    layers = [n.removesuffix(".lora_A.weight") for n in held if n.endswith("lora_A.weight")]
    return {n: scale * held[f"{n}.lora_B.weight"] @ held[f"{n}.lora_A.weight"] for n in layers}


def close(one, other) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[n], other[n], rtol=1e-4, atol=1e-5) for n in one
    )


@pytest.mark.parametrize("alpha", [0.85, 0.5, 1.0])
def test_the_interpolated_delta_is_the_mean_of_both(pair, tmp_path, alpha):
    new, old = pair

    interpolated(new, old, alpha, tmp_path / "mixed")

    a, b = deltas(new), deltas(old)
    assert close(deltas(tmp_path / "mixed"), {n: alpha * a[n] + (1 - alpha) * b[n] for n in a})
    assert adapters.rank_of(tmp_path / "mixed") == (10 if alpha < 1 else 4)


def test_without_a_champion_the_delta_shrinks(pair, tmp_path):
    interpolated(pair[0], None, 0.25, tmp_path / "mixed")

    assert close(deltas(tmp_path / "mixed"), {n: 0.25 * d for n, d in deltas(pair[0]).items()})


def test_peft_and_the_answers_see_the_same_interpolation(pair, loaded, base, tmp_path):
    new, old = pair
    mixed = tmp_path / "mixed"
    interpolated(new, old, 0.7, mixed)
    tiny.seal(mixed, base)
    verify(mixed, fingerprint(base), adapters.manifest(new).prompt_hash)
    ids = torch.tensor([tiny.tokenizer_of(base)("alert: disk alarm").input_ids])

    for name, folder in (("new", new), ("old", old), ("mixed", mixed)):
        model.with_adapter(loaded, folder, name=name)
    layers = [m for m in loaded.model.modules() if hasattr(m, "get_delta_weight")]
    with torch.no_grad():
        off = [
            float((m.get_delta_weight("mixed") - 0.7 * m.get_delta_weight("new")
                   - 0.3 * m.get_delta_weight("old")).abs().max())
            for m in layers
        ]  # fmt: skip
        loaded.model.set_adapter("mixed")
        said = loaded.model(ids).logits
        plain = [m for n, m in loaded.model.named_parameters() if n.endswith("base_layer.weight")]
        for weight, layer in zip(plain, layers, strict=True):
            weight += 0.7 * layer.get_delta_weight("new") + 0.3 * layer.get_delta_weight("old")
        with loaded.model.disable_adapter():
            by_hand = loaded.model(ids).logits
        for weight, layer in zip(plain, layers, strict=True):
            weight -= 0.7 * layer.get_delta_weight("new") + 0.3 * layer.get_delta_weight("old")
    for name in ("new", "old", "mixed"):
        model.without_adapter(loaded, name)

    assert len(layers) == 14
    assert max(off) < 1e-5
    assert torch.allclose(said, by_hand, atol=1e-3)


def test_an_adapter_cut_to_a_rank_that_suffices_is_the_same(pair, loaded, base, tmp_path):
    interpolated(*pair, 0.5, tmp_path / "wide")

    kept = compressed(tmp_path / "wide", 10, tmp_path / "cut")

    assert kept == pytest.approx(1.0, abs=1e-9)
    assert close(deltas(tmp_path / "cut"), deltas(tmp_path / "wide"))
    assert answers(loaded, tmp_path / "cut") == answers(loaded, tmp_path / "wide")


def test_a_rank_beyond_a_narrow_layer_is_filled_with_nothing(base, loaded, tmp_path):
    wide = [tiny.adapter(base, tmp_path / f"{n}", seed=n, rank=12) for n in (3, 4)]
    interpolated(*wide, 0.5, tmp_path / "wide")

    kept = compressed(tmp_path / "wide", 24, tmp_path / "cut")

    assert kept == pytest.approx(1.0)
    assert adapters.rank_of(tmp_path / "cut") == 24
    assert close(deltas(tmp_path / "cut"), deltas(tmp_path / "wide"))
    assert answers(loaded, tmp_path / "cut") == answers(loaded, tmp_path / "wide")


def answers(loaded, folder):
    model.with_adapter(loaded, folder, name="it")
    try:
        return generate(loaded, tiny.prompts(), adapter="it", max_new_tokens=24)
    finally:
        model.without_adapter(loaded, "it")


def test_a_cut_in_rank_is_the_nearest_and_says_what_it_kept(pair, tmp_path):
    whole = deltas(pair[0])

    kept = compressed(pair[0], 2, tmp_path / "cut")

    values = [torch.linalg.svdvals(d.double()) for d in whole.values()]
    assert kept == pytest.approx(
        float(sum((v[:2] ** 2).sum() for v in values) / sum((v**2).sum() for v in values)), rel=1e-5
    )
    assert 0.3 < kept < 0.99
    for name, delta in deltas(tmp_path / "cut").items():
        u, s, v = torch.linalg.svd(whole[name])
        assert torch.allclose(delta, (u[:, :2] * s[:2]) @ v[:2], atol=1e-4)


def test_only_plain_lora_of_the_same_layers_is_interpolated(pair, tmp_path):
    fewer = shutil.copytree(pair[1], tmp_path / "fewer")
    rewritten(fewer, lambda held: [held.pop(n) for n in list(held) if "layers.1" in n])
    half = shutil.copytree(pair[1], tmp_path / "half")
    rewritten(half, lambda held: held.pop(next(n for n in held if "lora_B" in n)))
    odd = shutil.copytree(pair[1], tmp_path / "odd")
    told = json.loads((odd / adapters.CONFIG).read_text())
    (odd / adapters.CONFIG).write_text(json.dumps({**told, "use_dora": True}))

    with pytest.raises(AdapterUnsound, match="new and fewer adapt different layers"):
        interpolated(pair[0], fewer, 0.5, tmp_path / "mixed")
    with pytest.raises(AdapterUnsound, match="half has an A without its B"):
        interpolated(half, pair[0], 0.5, tmp_path / "mixed")
    with pytest.raises(AdapterUnsound, match=r"odd uses .*use_dora"):
        interpolated(odd, pair[0], 0.5, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


def test_a_copy_holds_the_adapters_own_files_only(sealed, tmp_path):
    (sealed / "notes.txt").write_text("about it")

    adapters.copied(sealed, tmp_path / "copy")

    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    ]  # fmt: skip
    assert verify(tmp_path / "copy", BASE, PROMPT) == adapters.manifest(sealed)
