"""Lines of many instances at once equal `json.dumps` of each."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest

from tests.trainer.random_logs import PROPERTY
from tfx_pipeline.examples.columns import NumberColumn, TextColumn, Texts
from tfx_pipeline.examples.instance_lines import instance_lines
from trainer.contract.list_column import offsets_of

WORDS = ["jazz", "ü", "𝄞", 'a "quoted" one', "back\\slash", "new\nline", "\x00\x1f\x7f", "", "</é>"]
floats = st.floats(0, width=32, allow_nan=False, allow_infinity=False)
numbers = floats | st.integers(0, 20_000).map(float) | st.sampled_from([0.1, 1e-6, 3e38])


def text_column(rows, words, is_single=False):
    codes = np.array([words.index(word) for row in rows for word in row], np.int64)
    offsets = offsets_of(np.array([len(row) for row in rows], np.int64))
    return TextColumn(Texts(pa.array(words, pa.string())), codes, offsets, is_single)


def number_column(rows):
    values = np.array([value for row in rows for value in row], np.float32)
    return NumberColumn(values, offsets_of(np.array([len(row) for row in rows], np.int64)))


def expected(columns, num_rows):
    return "".join(
        json.dumps({name: c.value(row) for name, c in columns.items()}, ensure_ascii=False) + "\n"
        for row in range(num_rows)
    )


@PROPERTY
@hypothesis.given(
    st.lists(
        st.tuples(
            st.sampled_from(WORDS),
            st.lists(st.sampled_from(WORDS), max_size=4),
            st.lists(numbers, max_size=4),
        ),
        max_size=5,
    )
)
def test_lines_are_those_of_json(rows):
    users, words, weights = ([row[i] for row in rows] for i in range(3))
    columns = {
        "user_id": text_column([[user] for user in users], WORDS, is_single=True),
        "tägs": text_column(words, WORDS),
        "weights": number_column(weights),
    }
    assert instance_lines(columns).decode() == expected(columns, len(rows))


@pytest.mark.parametrize("words", [["plain", "ü 𝄞 \x7f"], ['"'], ["\\"], ["\t"], ["\x00"]])
def test_only_what_json_escapes_is_escaped(words):
    assert [word.decode() for word in Texts(pa.array(words)).json.to_pylist()] == [
        json.dumps(word, ensure_ascii=False) for word in words
    ]
