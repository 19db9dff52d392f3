import numpy as np
import pytest

from serving.feature_tensors import InputSlot, to_tensors

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
