"""Strings are ordered in the graph as Python orders them."""

import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.servable.text_order import sort_text, stable_order

SORT = tf.function(
    sort_text, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
).get_concrete_function()
# Few letters, so that strings share beginnings of any length; lengths around those of a word.
TEXTS = st.text("ab\x00zé中\U0001f600", max_size=20)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, max_size=40))
@example(["", "\x00", "a\x00", "a", "a\x00\x00"])
@example(["x" * 70 + "b", "x" * 70 + "a", "x" * 70])
@example(["\U0001f600", "\uffff", "é", "z"])
def test_codes_and_values_are_those_of_sorted_distinct_strings(texts):
    found = SORT(tf.constant([text.encode() for text in texts], tf.string, [len(texts)]))
    values = [value.decode() for value in found.values.numpy()]

    assert values == sorted(set(texts))
    assert [values[code] for code in found.codes.numpy()] == texts


def test_equal_numbers_keep_their_order():
    keys = tf.constant([3, -1, 3, 0, -1, -(2**63), 2**63 - 1], tf.int64)

    assert stable_order(keys).numpy().tolist() == [5, 1, 4, 3, 0, 2, 6]
