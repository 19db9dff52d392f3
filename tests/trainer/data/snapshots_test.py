import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots


def sparse(rows, dtype):
    indices = [[i, j] for i, row in enumerate(rows) for j in range(len(row))]
    values = [value for row in rows for value in row]
    width = max((len(row) for row in rows), default=0)
    return tf.SparseTensor(
        np.array(indices, np.int64).reshape(-1, 2), np.array(values, dtype), [len(rows), width]
    )


ROWS = [
    # user, time, tags, weights
    (b"b", 5, [3, 1], [2.0, 1.0]),
    (b"a", 9, [], []),
    (b"a", 2, [4], [7.0]),
    (b"c", 1, [0, 2, 5], [1.0, 1.0, 3.0]),
]
SORTED = [2, 1, 0, 3]


def batch_of(rows):
    return {
        "user_id": np.array([row[0] for row in rows], object),
        "snapshot_time": np.array([[row[1]] for row in rows], np.int64),
        "tags": sparse([row[2] for row in rows], np.int64),
        "tags_weights": sparse([row[3] for row in rows], np.float32),
    }


def make():
    return Snapshots.from_batches([batch_of(ROWS[:3]), batch_of(ROWS[3:])])


def as_rows(batch):
    columns = [batch["user_id"].numpy(), batch["snapshot_time"].numpy()]
    lists = [batch["tags"].to_list(), batch["tags_weights"].to_list()]
    return list(zip(*columns, *lists, strict=True))


def test_batches_give_every_row_in_canonical_order():
    snapshots = make()
    assert snapshots.num_examples == 4
    assert as_rows(snapshots.features()) == [ROWS[i] for i in SORTED]


def test_order_and_cutting_of_batches_does_not_matter():
    other = Snapshots.from_batches([batch_of(ROWS[2:]), batch_of(ROWS[:2])])
    assert as_rows(other.features()) == as_rows(make().features())


def test_ragged_batches_equal_sparse_ones():
    batch = batch_of(ROWS)
    for name in ("tags", "tags_weights"):
        batch[name] = tf.RaggedTensor.from_sparse(batch[name])
    assert as_rows(Snapshots.from_batches([batch]).features()) == as_rows(make().features())


def test_batch_without_any_value_keeps_its_rows():
    snapshots = Snapshots.from_batches([{"tags": sparse([[], []], np.int64)}])
    assert snapshots.num_examples == 2
    assert snapshots.features()["tags"].to_list() == [[], []]


def test_take_repeats_and_reorders_rows():
    taken = make().take(np.array([3, 1, 3]))
    assert as_rows(taken.features()) == [ROWS[SORTED[i]] for i in (3, 1, 3)]


def many():
    offsets = np.arange(0, 101 * 2, 2)
    return Snapshots(
        {
            "user_id": np.array([f"{i:03d}".encode() for i in range(100)]),
            "snapshot_time": np.arange(100),
        },
        {"tags": ListValues(np.arange(200, dtype=np.int32), offsets)},
    )


def steps_of_an_epoch(snapshots, batch_size, **options):
    num_steps = math.ceil(snapshots.num_examples / batch_size)
    return snapshots.step_dataset(batch_size, **options).take(num_steps)


def test_shuffling_repeats_with_the_seed_and_differs_between_epochs():
    def epochs(seed):
        steps = [b["snapshot_time"].numpy() for b in many().step_dataset(16, seed=seed).take(2 * 7)]
        return [np.concatenate(epoch).tolist() for epoch in (steps[:7], steps[7:])]

    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert epochs(1) == [first, second]
    assert epochs(2)[0] != first


def test_shuffled_batches_keep_lists_with_their_rows():
    for batch in steps_of_an_epoch(many(), 7, seed=3):
        expected = [[2 * i, 2 * i + 1] for i in batch["snapshot_time"].numpy().tolist()]
        assert batch["tags"].to_list() == expected
        assert batch["tags"].dtype == tf.int64


def test_batches_of_an_epoch_are_the_rows():
    batches = list(steps_of_an_epoch(make(), 3))
    assert [len(batch["user_id"]) for batch in batches] == [3, 1]
    assert sorted(row for batch in batches for row in as_rows(batch)) == sorted(ROWS)


def test_only_named_columns_are_read():
    (batch,) = steps_of_an_epoch(make(), 4, names=("tags",))
    assert set(batch) == {"tags"}


def test_nbytes_counts_the_narrowed_arrays():
    snapshots = many()
    assert snapshots.lists["tags"].values.dtype == np.int32
    assert snapshots.nbytes == 100 * 3 + 100 * 8 + 200 * 4 + 101 * 8


def test_ids_beyond_32_bits_survive():
    snapshots = Snapshots.from_batches([{"tags": sparse([[2**40, -1]], np.int64)}])
    assert snapshots.features()["tags"].to_list() == [[2**40, -1]]


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="`batches` must contain at least one batch"):
        Snapshots.from_batches([])


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="same number of rows"):
        Snapshots({"a": np.zeros(2), "b": np.zeros(3)}, {})


@pytest.mark.parametrize("kwargs", [{"batch_size": 0}, {"batch_size": 2, "names": ("other",)}])
def test_impossible_batches_are_refused(kwargs):
    with pytest.raises(ValueError, match="Received: "):
        make().step_dataset(**kwargs)


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_chunks_are_all_snapshots_in_order(size):
    snapshots = make()
    found = list(snapshots.chunks(size))
    assert [len(rows) for rows, _ in found] == [size] * (4 // size) + [4 % size] * (4 % size > 0)
    assert np.concatenate([rows for rows, _ in found]).tolist() == [0, 1, 2, 3]
    chunks = [row for _, chunk in found for row in as_rows(chunk.features())]
    assert chunks == as_rows(snapshots.features())


def test_chunks_of_chosen_rows_are_in_the_given_order():
    snapshots = make()
    rows = as_rows(snapshots.features())
    found = list(snapshots.chunks(2, np.array([3, 0, 1])))
    assert [part.tolist() for part, _ in found] == [[3, 0], [1]]
    chunks = [as_rows(chunk.features()) for _, chunk in found]
    assert chunks == [[rows[3], rows[0]], [rows[1]]]
    assert not list(snapshots.chunks(2, np.zeros(0, np.int64)))
