"""Which values of a column of lists are ids: -1 is unknown, and hash buckets come last."""

import numpy as np
import pytest

from trainer.contract.list_column import ListValues

# Three lists, the second of which is empty; 4 is a hash bucket of a vocabulary with four ids.
COLUMN = ListValues(np.array([2, -1, 4, 0, -1, -1]), np.array([0, 3, 3, 6]))


@pytest.mark.parametrize(
    ("num_ids", "expected"), [(None, [(0, 2), (0, 4), (2, 0)]), (4, [(0, 2), (2, 0)])]
)
def test_known_pairs_leave_out_what_has_no_id(num_ids, expected):
    rows, ids = COLUMN.known_pairs(num_ids)
    assert list(zip(rows.tolist(), ids.tolist(), strict=True)) == expected
    assert COLUMN.values[COLUMN.is_known(num_ids)].tolist() == ids.tolist()


def test_members_are_the_known_ids_of_each_list():
    members = COLUMN.members(5)
    assert np.argwhere(members).tolist() == [[0, 2], [0, 4], [2, 0]]
    assert members.shape == (3, 5)


def test_unknown_values_are_counted_list_by_list():
    assert COLUMN.num_unknown.tolist() == [1, 0, 2]
    assert ListValues(np.zeros(0, np.int64), np.array([0, 0])).num_unknown.tolist() == [0]
