import collections

import numpy as np

from benchmarks.peers import label_rows
from benchmarks.peers.label_rows import LABEL, LabelRows, padded
from tests.benchmarks.small_training_data import SPEC, ragged, training_data
from trainer.contract import features as f


def test_lists_are_cut_and_padded():
    lists = ragged([[5, 0, 2, 9], [], [3]])

    assert padded(lists, 3).tolist() == [[6, 1, 3], [0, 0, 0], [4, 0, 0]]


def test_batches_hold_every_label_of_every_snapshot_once():
    snapshots = training_data(12).snapshots
    rows = LabelRows.of(snapshots, SPEC)
    expected = collections.Counter()
    for i in range(12):
        one = snapshots.take(np.array([i]))
        user = tuple(one.scalars[p.name][0] for p in SPEC.profile)
        lists = tuple(tuple(one.lists[d.name].values) for d in SPEC.domains)
        for tag in one.lists[f.LABEL_TAGS].values:
            if tag >= 0:
                expected[user, lists, tag] += 1
    assert rows.num_rows == sum(expected.values())

    seen = collections.Counter()
    for batch in rows.dataset(1, seed=3).take(rows.num_rows):
        user = tuple(batch[p.name].numpy()[0] for p in SPEC.profile)
        ids = [batch[d.name].numpy()[0] for d in SPEC.domains]
        assert all(len(row) == label_rows.MAX_VALUES for row in ids)
        lists = tuple(tuple(row[row != label_rows.PADDING] - 1) for row in ids)
        seen[user, lists, batch[LABEL].numpy()[0]] += 1
    assert seen == expected


def test_seed_fixes_the_order():
    rows = LabelRows.of(training_data(12).snapshots, SPEC)

    def labels(seed):
        return [batch[LABEL].numpy().tolist() for batch in rows.dataset(5, seed).take(4)]

    assert labels(0) == labels(0)
    assert labels(0) != labels(1)


def test_values_a_row_are_those_of_its_snapshot():
    snapshots = training_data(12).snapshots
    rows = LabelRows.of(snapshots, SPEC)
    lengths = sum(np.diff(snapshots.lists[d.name].offsets) for d in SPEC.domains)

    assert rows.values_per_row == np.mean([lengths[i] for i in rows.snapshot])
