"""Cells of any Arrow type become the wanted type, or are recognised as wrong."""

import numpy as np
import pyarrow as pa
import pytest

from tfx_pipeline.tables import cells


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", None, ""]), ["a", "", ""]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", "", "a"]),
        (pa.array(["a", None], pa.large_string()), ["a", ""]),
        (pa.array([7, None, -1]), ["7", "", "-1"]),
        (pa.array([25.0, None, float("nan"), 0.1, 1e20]), ["25", "", "", "0.1", "1e+20"]),
        (pa.array([25.0, 0.5], pa.float32()), ["25", "0.5"]),
        (pa.array([True, None]), ["true", ""]),
        (pa.nulls(2), ["", ""]),
        (pa.array([b"x", None]), ["x", ""]),
    ],
)
def test_scalar_becomes_text(column, expected):
    texts, is_wrong = cells.as_text(column)
    assert texts.to_pylist() == expected
    assert not is_wrong.any()


def test_nested_and_undecodable_cells_are_no_text():
    _, is_wrong = cells.as_text(pa.array([["a"], None]))
    assert is_wrong.tolist() == [True, False]
    texts, is_wrong = cells.as_text(pa.array([b"\xff", b"ok", None]))
    assert texts.to_pylist() == ["", "ok", ""]
    assert is_wrong.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("column", "ids", "missing", "wrong"),
    [
        (pa.array([3, None]), ["3", ""], [False, True], [False, False]),
        (pa.array([3.0, float("nan"), 0.5]), ["3", "", "0.5"], [0, 1, 0], [0, 0, 1]),
        (pa.array([" ", "a b"]), [" ", "a b"], [True, False], [False, False]),
        (pa.array([True, None]), ["true", ""], [False, True], [True, False]),
        (pa.array([["a"], None]), ["", ""], [False, True], [True, False]),
    ],
)
def test_ids_missing_and_wrong_are_told_apart(column, ids, missing, wrong):
    texts, is_missing, is_wrong = cells.as_id(column)
    assert texts.to_pylist() == ids
    assert is_missing.tolist() == missing
    assert is_wrong.tolist() == wrong


def test_numeric_strings_are_numbers_and_words_are_not():
    column = pa.array(
        ["1", " 2.5 ", "-3e2", "", None, "abc", "nan", "inf", "0x10", "1e999", "True"]
    )
    numbers = cells.as_numbers(column)
    np.testing.assert_array_equal(numbers.values, [1, 2.5, -300] + [np.nan] * 8)
    assert numbers.is_missing.tolist() == [False] * 3 + [True] * 2 + [False] * 6
    assert numbers.is_invalid.tolist() == [False] * 5 + [True] * 6
    assert cells.as_numbers(column, accept_words=True).values[-1] == 1


@pytest.mark.parametrize(
    ("column", "values", "missing", "invalid"),
    [
        (pa.array([1, None]), [1, np.nan], [0, 1], [0, 0]),
        (pa.array([0.5, np.nan, np.inf]), [0.5, np.nan, np.nan], [0, 1, 0], [0, 0, 1]),
        (pa.array([True, False]), [1, 0], [0, 0], [0, 0]),
        (pa.array([[1], None]), [np.nan, np.nan], [0, 1], [1, 0]),
        (pa.nulls(1), [np.nan], [1], [0]),
        (pa.array([2**63 - 1]), [2.0**63], [0], [0]),
    ],
)
def test_number_columns_of_any_type(column, values, missing, invalid):
    numbers = cells.as_numbers(column)
    np.testing.assert_array_equal(numbers.values, values)
    assert numbers.is_missing.tolist() == missing
    assert numbers.is_invalid.tolist() == invalid


def _lists(column, **options):
    lists, is_wrong, _ = cells.as_lists(
        column, separator="|", normalization=cells.TagNormalization(**options)
    )
    return lists.to_pylist(), is_wrong.tolist()


def test_lists_are_normalised_and_merged_in_order():
    column = pa.array([[" B", "a", "b ", None, " "], None, [], ["C"]])
    assert _lists(column) == ([["b", "a"], [], [], ["c"]], [False] * 4)
    assert _lists(column, trim=False, lowercase=False)[0][0] == [" B", "a", "b ", " "]


def test_tags_are_normalised_as_a_live_caller_normalises_them():
    # Letters whose lower case depends on neighbours, or is two letters: both paths agree.
    tags = ["ΟΔΟΣ", "\u00a0İstanbul\u2003", "STRAẞE", "ǅ", "\x1fK\x1f", "日本"]
    for options in ({}, {"trim": False}, {"lowercase": False}):
        expected = cells.TagNormalization(**options).apply(tags)
        assert _lists(pa.array([[tag] for tag in tags * 2]), **options)[0] == [
            [tag] for tag in expected * 2
        ]


def test_sliced_lists_keep_their_rows():
    column = pa.array([["x"], ["a", "b"], None, ["c"], ["y"]]).slice(1, 3)
    assert _lists(column)[0] == [["a", "b"], [], ["c"]]


@pytest.mark.parametrize("kind", [pa.list_(pa.string(), 2), pa.large_list(pa.string())], ids=str)
def test_lists_of_other_layouts_keep_their_rows(kind):
    column = pa.array([["x", "y"], ["a", "b"], None, ["c", None], ["z", "z"]], kind).slice(1, 3)
    assert _lists(column) == ([["a", "b"], [], ["c"]], [False] * 3)


def test_each_cell_of_a_union_is_read_as_one_of_its_type():
    children = [pa.array([7, None]), pa.array(["x|y"])]
    codes, offsets = pa.array([1, 0, 0], pa.int8()), pa.array([0, 0, 1], pa.int32())
    column = pa.UnionArray.from_dense(codes, offsets, children)
    assert cells.as_text(column)[0].to_pylist() == ["x|y", "7", ""]
    assert _lists(column.slice(0, 2)) == ([["x", "y"], []], [False, True])


def test_lists_of_numbers():
    def read(column):
        lists, is_wrong = cells.as_number_lists(column, separator="|")
        return lists.to_pylist(), is_wrong.tolist()

    assert read(pa.array([[1, 2], None, []])) == ([[1, 2], [], []], [False] * 3)
    assert read(pa.array(["1|2.5", "", None])) == ([[1, 2.5], [], []], [False] * 3)
    assert read(pa.array([5])) == ([[]], [True])
    assert np.isnan(read(pa.array([["a"]]))[0]).tolist() == [[True]]


def test_strings_are_split_and_numbers_are_wrong():
    assert _lists(pa.array(["a|B||b", None, ""])) == ([["a", "b"], [], []], [False] * 3)
    assert _lists(pa.array([1, None])) == ([[], []], [True, False])
    assert _lists(pa.array([[["a"]], [["b"]]])) == ([[], []], [True, True])
    assert _lists(pa.array([[1, 2], None])) == ([["1", "2"], []], [False, False])
    assert _lists(pa.nulls(2)) == ([[], []], [False, False])
