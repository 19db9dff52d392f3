import numpy as np
import pytest

from tagtower_client.feature_tensors import InputSlot, to_tensors

SLOTS = {
    "age": InputSlot(is_text=True, is_list=False),
    "recent": InputSlot(is_text=True, is_list=True),
    "recent_weights": InputSlot(is_text=False, is_list=True),
}


def test_lists_are_padded_to_the_longest_of_the_batch():
    tensors = to_tensors(
        [
            {"age": "25", "recent": ["a", "b"], "recent_weights": [0.5, 2]},
            {"recent": ["c"], "recent_weights": np.array([3.0])},
        ],
        SLOTS,
    )
    assert tensors["age"].tolist() == [b"25", b""]
    assert tensors["recent"].tolist() == [[b"a", b"b"], [b"c", b""]]
    assert tensors["recent_weights"].tolist() == [[0.5, 2.0], [3.0, 0.0]]
    assert tensors["recent_weights"].dtype == np.float32


def test_lists_of_any_kind_and_length_are_read_side_by_side():
    tensors = to_tensors(
        [
            {"recent": ["é", "a\0"], "recent_weights": [1, 2.5]},
            {"recent": []},
            {"recent": np.array(["b"]), "recent_weights": np.array([3], np.int64)},
            {"recent": ("", "c", "d"), "recent_weights": (2**24 + 1, 0.1, 5)},
        ],
        SLOTS,
    )
    assert tensors["recent"].tolist() == [
        ["é".encode(), b"a\0", b""],
        [b""] * 3,
        [b"b", b"", b""],
        [b"", b"c", b"d"],
    ]
    expected = np.array([[1, 2.5, 0], [0, 0, 0], [3, 0, 0], [2**24, 0.1, 5]], np.float32)
    np.testing.assert_array_equal(tensors["recent_weights"], expected)


def test_weights_left_out_are_one_and_features_left_out_empty():
    tensors = to_tensors([{"recent": ("a", "b")}, {}], SLOTS)
    assert tensors["recent_weights"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert tensors["recent"].tolist() == [[b"a", b"b"], [b"", b""]]


def test_batch_of_empty_lists_has_one_column_of_padding():
    tensors = to_tensors([{}], SLOTS)
    assert tensors["recent"].tolist() == [[b""]]
    assert tensors["recent_weights"].tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "`features` must hold at least one instance"),
        (
            [{}, {"agee": "25"}],
            r"`features\[1\]` must name features of the model \(age, recent, recent_weights\). "
            "Received: agee.",
        ),
        ([{"age": 25}], r"`age` of `features\[0\]` must be a string. Received: 25."),
        ([{"recent": "drama"}], "`recent` .* must be a list of strings. Received: 'drama'."),
        ([{"recent": [1]}], "`recent` .* must be a list of strings"),
        (
            [{"recent": ["a"]}, {}, {"recent": ["b", 1]}, {"recent": "c"}],
            r"`recent` of `features\[2\]` must be a list of strings. Received: \['b', 1\].",
        ),
        (
            [{"recent": ["a"], "recent_weights": [2]}, {"recent": ["a"], "recent_weights": [True]}],
            r"`recent_weights` of `features\[1\]` must be a list of finite numbers",
        ),
        (
            [{"recent": ["a"], "recent_weights": [10**400]}],
            "must be a list of finite numbers",
        ),
        ([{"recent": ["a"], "recent_weights": ["1"]}], "must be a list of finite numbers"),
        ([{"recent": ["a"], "recent_weights": [float("nan")]}], "must be a list of finite"),
        (
            [{"recent": ["a", "b"], "recent_weights": [1.0]}],
            "must have a weight for each of the 2 values of `recent`. Received: 1 weights.",
        ),
        ([{"recent_weights": [1.0]}], "each of the 0 values of `recent`"),
    ],
)
def test_wrong_instance_is_one_clear_line(features, message):
    with pytest.raises(ValueError, match=message) as caught:
        to_tensors(features, SLOTS)
    assert "\n" not in str(caught.value)
