"""Pieces of sequences: everything once, in order, and nothing read ahead."""

import numpy as np
import pytest

from trainer.contract.batches import batched, slices


@pytest.mark.parametrize(
    ("num_values", "expected"),
    [(0, []), (1, [[0]]), (3, [[0, 1, 2]]), (4, [[0, 1, 2], [3]]), (6, [[0, 1, 2], [3, 4, 5]])],
)
def test_batches_have_every_value_once_and_in_order(num_values, expected):
    assert list(batched(range(num_values), 3)) == expected


def test_no_value_is_read_before_its_batch_is_asked_for():
    read = []
    values = (read.append(value) or value for value in range(9))
    batches = batched(values, 3)
    assert not read
    assert next(batches) == [0, 1, 2]
    assert read == [0, 1, 2]


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, []),
        (2, [slice(0, 2)]),
        (3, [slice(0, 3)]),
        (7, [slice(0, 3), slice(3, 6), slice(6, 7)]),
    ],
)
def test_slices_end_where_the_rows_end(length, expected):
    found = list(slices(length, 3))
    assert found == expected
    rows = np.arange(length)
    assert np.concatenate([rows[:0], *(rows[part] for part in found)]).tolist() == rows.tolist()
