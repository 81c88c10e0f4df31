import json
import logging
import math
import shutil
import time

import pytest
import torch

from ingest.errors import Unreadable
from retrieval.prompt import Prompt, parsed, parsed_choice
from tests.training import tiny
from training import model
from training.batches import question_ids
from training.general import general_parsed, general_prompt
from training.model import ModelUnsound, fingerprint, generate, load_base, nll

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOM = 600  # tokens: what a random model says runs on to the longest text that the form allows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.base(tmp_path_factory.mktemp("base") / "qwen")


@pytest.fixture(scope="module")
def base(folder):
    return tiny.loaded(folder)


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    return tiny.adapter(folder, tmp_path_factory.mktemp("adapter") / "one", seed=1)


@pytest.fixture
def own(folder, tmp_path):
    """A copy of the base to damage."""
    return shutil.copytree(folder, tmp_path / "own")


def config(folder, **instead) -> None:
    path = folder / "config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in {**told, **instead}.items() if v is not None}))


def without_template(folder) -> None:
    for path in folder.glob("*.jinja"):
        path.unlink()


def with_a_template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def an_encoder(folder) -> None:
    from transformers import BertConfig, BertModel

    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(hidden_size=8, vocab_size=50, **shape)).save_pretrained(folder)


def pickled(folder) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")


def only_pickled(folder) -> None:
    (folder / "model.safetensors").unlink()
    pickled(folder)


def without_end(folder) -> None:
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text())
    told.pop("eos_token")
    path.write_text(json.dumps(told))


def truncated(folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def without_a_layer(folder) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    held = load_file(path)
    held.pop("model.layers.1.mlp.up_proj.weight")
    save_file(held, path, metadata={"format": "pt"})


def with_code(folder) -> None:
    (folder / "own.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w').close()\n"
        "from transformers import PretrainedConfig\n"
        "class Own(PretrainedConfig):\n    model_type = 'own'\n"
    )
    auto = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    config(folder, model_type="own", auto_map=auto)


BAD = [
    ("no config", lambda f: (f / "config.json").unlink(), r"holds no config\.json"),
    ("an encoder", an_encoder, "is a bert model, not a causal LM"),
    ("no chat template", without_template, "has no chat template"),
    ("a broken template", with_a_template("{% for %}"), "chat template cannot be used"),
    ("pickles", pickled, r"holds pickled files \(pytorch_model\.bin\)"),
    ("pickles only", only_pickled, r"holds pickled files \(pytorch_model\.bin\)"),
    ("no weights", lambda f: (f / "model.safetensors").unlink(), r"no \*\.safetensors weights"),
    ("cut weights", truncated, r"own cannot be loaded: "),
    (
        "a layer missing",
        without_a_layer,
        r"lacks 1 of its weights, the first model\.layers\.1\.mlp\.up_proj",
    ),
    ("other sizes", lambda f: config(f, intermediate_size=40), "own cannot be loaded: "),
    ("no JSON", lambda f: (f / "config.json").write_text("{"), r"config\.json cannot be used"),
    ("unknown kind", lambda f: config(f, model_type="no-such"), r"config\.json cannot be used"),
    ("no kind", lambda f: config(f, model_type=None), r"config\.json cannot be used"),
    ("nonsense", lambda f: config(f, num_hidden_layers="two"), r"config\.json cannot be used"),
    ("code of its own", with_code, "needs code of its own, and code is never run"),
    ("no end token", without_end, "needs a fast tokenizer with an end-of-text token"),
    ("no tokenizer", lambda f: (f / "tokenizer.json").unlink(), "own cannot be loaded: "),
    ("a short context", lambda f: config(f, max_position_embeddings=128), "128 tokens, .* 256"),
]


@pytest.mark.parametrize(("damage", "said"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_base_that_cannot_be_used_gets_one_line_that_names_it(own, damage, said):
    damage(own)

    with pytest.raises(ModelUnsound, match=said) as raised:
        load_base(str(own), device="cpu")

    assert "own" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (own / "ran").exists()


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("/no/such/base", "", "there is no base at /no/such/base"),
        ("./no-such-base", "", "there is no base at ./no-such-base"),
        ("gpt-nothing", "", "there is no base at gpt-nothing"),
        ("some/model", "", r"training\.revision is empty; pin its commit"),
        ("some/model", "main", r"main is no commit; pin .*40 hex"),
        ("some/model", COMMIT, "neither in the hub's cache nor can it be fetched"),
    ],
)
def test_a_base_that_is_not_there_gets_one_line(name, revision, said, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(ModelUnsound, match=said) as raised:
        load_base(name, revision=revision)

    assert "\n" not in str(raised.value)


def test_a_gpu_that_is_not_there_is_named(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ModelUnsound, match=r"training\.device is cuda, but torch sees no GPU"):
        load_base(str(folder), device="cuda")


def test_four_bits_without_their_package_name_the_extra(folder, monkeypatch):
    monkeypatch.setattr(model, "find_spec", lambda name: None)

    with pytest.raises(ModelUnsound, match=r"pip install 'scarwise\[four-bit\]'"):
        load_base(str(folder), device="cpu", four_bit=True)


def test_a_base_that_does_not_fit_into_memory_is_said_to(folder, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("transformers.Qwen3ForCausalLM.from_pretrained", full)

    with pytest.raises(ModelUnsound, match="does not fit into the memory of cpu"):
        load_base(str(folder), device="cpu")


def test_known_architectures_are_loaded_without_the_code_that_lies_beside_them(own):
    with_code(own)
    config(own, model_type="qwen3")

    assert type(load_base(str(own), device="cpu").model).__module__.startswith("transformers.")
    assert not (own / "ran").exists()


def test_the_fingerprint_changes_with_weights_template_and_tokenizer_and_not_with_notes(own):
    first = fingerprint(own)
    (own / "README.md").write_text("about it")
    (own / "generation_config.json").write_text("{}")
    noted = fingerprint(own)
    with_a_template("{{ messages }}")(own)
    templated = fingerprint(own)
    without_a_layer(own)

    assert noted == first
    assert len({first, templated, fingerprint(own)}) == 3


def test_a_template_without_a_system_role_reads_the_instruction_with_the_question(own):
    with_a_template(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    )(own)
    asked = Prompt("diagnose", "Be brief.", "alert: disk")

    told = tiny.loaded(own).tokenizer
    text = told.decode(question_ids(told, asked))

    assert text.replace(" ", "").startswith("<|user|>Bebrief.\n\nalert:disk".replace(" ", ""))


def test_every_answer_of_a_random_model_is_in_the_agreed_form(base, adapter):
    asked = [*tiny.prompts(), general_prompt("What is DNS?")]
    model.with_adapter(base, adapter, name="one")
    try:
        for speaker in (None, "one"):
            texts = generate(base, asked, adapter=speaker, max_new_tokens=ROOM)
            for question, text in zip(asked, texts, strict=True):
                read(question, text)
    finally:
        model.without_adapter(base, "one")


def read(question, text) -> None:
    if question.form:
        general_parsed(text)
    elif question.task == "choose":
        parsed_choice(text)
    else:
        parsed(text)


def test_an_unconstrained_random_model_says_something_else(base):
    [text] = generate(base, tiny.prompts()[:1], adapter=None, max_new_tokens=8, constrained=False)

    with pytest.raises(Unreadable):
        parsed(text)


def test_an_adapter_changes_answers_and_leaves_none_of_them_behind(base, adapter):
    asked = tiny.prompts()
    before, surprise = answers(base, asked), nll(base, asked, ["{}"] * 5, adapter=None)
    model.with_adapter(base, adapter, name="one")
    other = answers(base, asked, "one")
    beside = answers(base, asked)
    model.without_adapter(base, "one")

    assert other != before
    assert beside == before
    assert answers(base, asked) == before
    assert nll(base, asked, ["{}"] * 5, adapter=None) == surprise
    assert not hasattr(base.model, "peft_config")


def test_two_adapters_beside_one_base_answer_as_each_does_alone(base, folder, adapter, tmp_path):
    asked = tiny.prompts()
    second = tiny.adapter(folder, tmp_path / "two", seed=2, rank=8)
    alone = {}
    for name, place in (("one", adapter), ("two", second)):
        model.with_adapter(base, place, name=name)
        alone[name] = answers(base, asked, name)
        model.without_adapter(base, name)

    model.with_adapter(base, adapter, name="one")
    model.with_adapter(base, second, name="two")
    together = {name: answers(base, asked, name) for name in ("one", "two")}
    model.without_adapter(base, "one")
    left = answers(base, asked, "two")
    model.without_adapter(base, "two")

    assert together == alone
    assert left == alone["two"]


def answers(base, asked, adapter=None):
    return generate(base, asked, adapter=adapter, max_new_tokens=60)


def test_an_adapter_that_is_not_loaded_cannot_be_asked(base):
    with pytest.raises(ModelUnsound, match="no adapter nobody is loaded"):
        generate(base, tiny.prompts(), adapter="nobody")


def test_a_batch_gives_the_answers_that_its_prompts_get_one_by_one(base, adapter):
    asked = tiny.prompts()
    model.with_adapter(base, adapter, name="one")
    try:
        together = generate(base, asked, adapter="one", max_new_tokens=40, batch_size=5)
        apart = generate(base, asked, adapter="one", max_new_tokens=40, batch_size=1)
    finally:
        model.without_adapter(base, "one")

    assert together == apart


def test_the_surprise_is_the_mean_over_the_tokens_of_the_answer(base):
    asked = tiny.prompts()
    said = ['{"status":"novel","cites":[]}', "no", "x" * 30, "disk", "{}"]

    found = nll(base, asked, said, adapter=None, batch_size=3)

    assert found == pytest.approx([directly(base, *pair) for pair in zip(asked, said, strict=True)],
                                  abs=1e-4)  # fmt: skip


def directly(base, question, answer) -> float:
    told = base.tokenizer
    asked = question_ids(told, question)
    said = [*told(answer, add_special_tokens=False).input_ids, told.eos_token_id]
    with torch.no_grad():
        logits = base.model(torch.tensor([asked + said])).logits[0].log_softmax(-1)
    return -sum(float(logits[len(asked) - 1 + n, token]) for n, token in enumerate(said)) / len(
        said
    )


def test_an_answer_that_does_not_fit_has_no_surprise(base):
    found = nll(base, tiny.prompts()[:2], ["~" * 5000, "{}"], adapter=None)

    assert math.isnan(found[0])
    assert math.isfinite(found[1])


def test_a_question_longer_than_the_context_keeps_its_beginning_and_its_end(base):
    asked = tiny.row(1, user="alert: " + " ".join(f"host-{n}" for n in range(3000))).prompt
    ids = question_ids(base.tokenizer, asked, 200)

    [text] = generate(base, [asked], adapter=None, max_new_tokens=ROOM)

    whole = question_ids(base.tokenizer, asked, 10**6)
    assert ids == whole[:100] + whole[-100:]
    parsed(text)


def test_whoever_no_longer_waits_ends_the_generation(base):
    asked = tiny.prompts()
    began = []

    def stop() -> bool:
        began.append(time.monotonic())
        return len(began) > 3

    texts = generate(base, asked, adapter=None, max_new_tokens=ROOM, batch_size=2, stop=stop)

    assert len(began) < 8
    assert len(texts) == len(asked)
    assert texts.count("") >= 3


def test_progress_counts_the_prompts_that_are_answered(base):
    seen = []

    generate(base, tiny.prompts(), adapter=None, max_new_tokens=2, batch_size=2,
             progress=lambda done, of: seen.append((done, of)))  # fmt: skip

    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert generate(base, [], adapter=None) == []


def test_bfloat16_answers_in_form_too(folder):
    half = load_base(str(folder), device="cpu", dtype="bfloat16")
    asked = tiny.prompts()

    for question, text in zip(asked, answers(half, asked), strict=True):
        assert half.dtype == "bfloat16"
        assert text.startswith("{") or not question


@pytest.fixture(autouse=True)
def quietly():
    """transformers' own log lines are for nobody here."""
    logging.getLogger("transformers").setLevel(logging.ERROR)


def test_a_batch_that_memory_does_not_hold_is_answered_in_parts(base, monkeypatch):
    asked, at_once = tiny.prompts()[:1] * 5, model._answers_at_once
    whole = generate(base, asked, adapter=None, max_new_tokens=8)
    tried = []

    def full(loaded, some, *more):
        tried.append(len(some))
        if len(some) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return at_once(loaded, some, *more)

    monkeypatch.setattr(model, "_answers_at_once", full)
    room = 2
    assert generate(base, asked, adapter=None, max_new_tokens=8) == whole
    assert tried == [5, 2, 3, 1, 2]

    room = 0
    with pytest.raises(ModelUnsound, match="no memory of cpu for one question"):
        generate(base, asked, adapter=None, max_new_tokens=8)
