from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training import tiny
from training.batches import IGNORED, Alike, Item, padded, question_ids, tokenised

LENGTHS = [7, 30, 8, 31, 9, 32, 100, 7, 33, 101]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@given(
    st.lists(st.integers(1, 500), max_size=60),
    st.integers(1, 9),
    st.integers(0, 99),
    st.integers(0, 5),
)
def test_every_row_comes_once_an_epoch(lengths, micro, seed, epoch):
    order = Alike(lengths, micro, seed)
    order.set_epoch(epoch)

    assert sorted(order) == list(range(len(lengths)))
    assert len(order) == len(lengths)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 9))
def test_the_rows_of_a_micro_batch_stand_side_by_side_in_length(lengths, micro):
    order = list(Alike(lengths, micro, seed=1))

    batches = [order[n : n + micro] for n in range(0, len(order), micro)]
    spans = sorted((min(lengths[n] for n in b), max(lengths[n] for n in b)) for b in batches)
    assert all(ends <= begins for (_, ends), (begins, _) in pairwise(spans))
    assert all(len(batch) == micro for batch in batches[:-1])


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 9),
    st.integers(0, 99),
)  # fmt: skip
def test_copies_of_a_row_in_several_epochs_never_meet_but_where_two_epochs_touch(
    lengths, epochs, micro, seed
):
    rows = len(lengths)
    order = list(Alike(lengths * epochs, micro, seed, parts=[rows] * epochs))

    batches = [order[n : n + micro] for n in range(0, len(order), micro)]
    crossing = [b for b in batches if len({n // rows for n in b}) > 1]
    assert sorted(order) == list(range(rows * epochs))
    assert all(b in crossing for b in batches if len({n % rows for n in b}) < len(b))
    # What is left of one epoch, less than a batch, is put into batches of the next.
    assert len(crossing) <= (micro - 1) * (epochs - 1)


def test_parts_that_are_not_all_rows_are_refused():
    with pytest.raises(ValueError, match="parts of 3 rows do not make up 4"):
        Alike([1, 2, 3, 4], 2, seed=0, parts=[1, 2])


def test_each_epoch_has_its_own_order_and_a_seed_repeats_it():
    def orders(seed):
        alike, made = Alike(LENGTHS * 5, 4, seed), []
        for epoch in range(3):
            alike.set_epoch(epoch)
            made.append(tuple(alike))
        return made

    assert orders(1) == orders(1)
    assert len({*orders(1), *orders(2)}) == 6


def test_micro_batches_do_not_come_by_length():
    order = list(Alike([n // 4 for n in range(80)], 4, seed=0))

    assert [n // 4 for n in order[::4]] != sorted(n // 4 for n in order[::4])


def test_a_row_is_the_prompt_the_answer_and_the_end(tokenizer):
    row = tiny.row(1)

    item = tokenised(tokenizer, row.prompt, row.answer)

    text = tokenizer.decode(item.ids[: item.prompt])
    assert item.ids[: item.prompt] == question_ids(tokenizer, row.prompt)
    assert text.endswith("<|assistant|>")
    assert tokenizer.decode(item.ids[item.prompt : -1]) == row.answer
    assert item.ids[-1] == tokenizer.eos_token_id
    assert (item.cut, item.lost) == (0, False)


def test_the_middle_of_a_long_prompt_gives_way_and_the_answer_never_does(tokenizer):
    row = tiny.row(1, user="alert: " + " ".join(f"host-{n}" for n in range(500)))
    whole = question_ids(tokenizer, row.prompt, 10**6)
    said = tokenised(tokenizer, tiny.row(1).prompt, row.answer)

    item = tokenised(tokenizer, row.prompt, row.answer, 200)

    answer = said.ids[said.prompt :]
    room = 200 - len(answer)
    assert item.ids == whole[: room // 2] + whole[len(whole) - (room - room // 2) :] + answer
    assert item.cut == len(whole) - room
    assert not item.lost


def test_an_answer_that_leaves_no_room_for_a_question_is_lost(tokenizer):
    row = tiny.row(1, answer="The log volume was full. " * 9)
    said = len(tokenizer(row.answer, add_special_tokens=False).input_ids) + 1

    assert tokenised(tokenizer, row.prompt, row.answer, said + 15).lost
    assert not tokenised(tokenizer, row.prompt, row.answer, said + 16).lost


def test_a_batch_is_padded_on_the_right_and_counts_answers_only():
    items = [Item([5, 6, 7, 8], 2, 0, False), Item([5, 9], 1, 0, False)]

    batch = {name: tensor.tolist() for name, tensor in padded(items, 0).items()}

    assert batch == {
        "input_ids": [[5, 6, 7, 8], [5, 9, 0, 0]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
        "labels": [[IGNORED, IGNORED, 7, 8], [IGNORED, 9, IGNORED, IGNORED]],
    }


def test_weights_stand_for_the_prompt_the_answer_and_the_padding():
    items = [Item([5, 6, 7, 8], 2, 0, False), Item([5, 9], 1, 0, False)]

    weights = padded(items, 0, prompt_weight=0.25)["loss_weights"]

    assert weights.tolist() == [[0.25, 0.25, 1, 1], [0.25, 1, 0, 0]]
