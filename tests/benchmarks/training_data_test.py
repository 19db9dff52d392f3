import dataclasses

import numpy as np
import pytest

from benchmarks import training_data
from benchmarks.training_data import DEMO, MOVIELENS, Log, find_log, fingerprint, label_examples
from tests.benchmarks import small_training_data
from tests.benchmarks.small_training_data import ragged
from tfx_pipeline.datasets.demo_config import DemoConfig
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots


def test_arrays_come_back_as_they_were_saved(tmp_path):
    data = small_training_data.training_data()
    names = training_data.training_columns(Log(MOVIELENS).config)
    training_data.save(data, names, tmp_path)
    loaded = training_data.load(tmp_path)

    assert loaded.vocabulary_sizes == data.vocabulary_sizes
    assert loaded.num_tags == data.num_tags
    assert set(loaded.snapshots.scalars) | set(loaded.snapshots.lists) == set(names)
    for name, column in loaded.snapshots.scalars.items():
        np.testing.assert_array_equal(column, data.snapshots.scalars[name])
    for name, lists in loaded.snapshots.lists.items():
        np.testing.assert_array_equal(lists.values, data.snapshots.lists[name].values)
        np.testing.assert_array_equal(lists.offsets, data.snapshots.lists[name].offsets)
    assert training_data.describe(tmp_path)["num_snapshots"] == data.snapshots.num_examples


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, [2 + 3, 0 + 1]),
        ({"joint_weight": 0}, [2, 0]),
        ({"multi_class_weight": 0}, [3, 1]),
        ({"multi_class_weight": 0, "joint_weight": 0, "split_weight": 1}, [3, 1]),
        ({"joint_weight": 0, "multi_class_joint_weight": 1}, [2 + 2, 0]),
    ],
)
def test_label_examples_are_what_enters_a_loss(weights, expected):
    snapshots = Snapshots(
        {},
        {
            f.LABEL_TAGS: ragged([[4, -1, 2], [-1]]),
            f.IMPRESSION_CLICKED: ragged([[1, 0, 1], [0]], np.float32),
        },
    )

    assert label_examples(snapshots, TrainingConfig(**weights)).tolist() == expected


def test_log_is_movielens_where_it_is_and_else_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("MOVIELENS_DIR", str(tmp_path))
    assert find_log() == Log(DEMO)

    files = [tmp_path / "ml-1m" / "ratings.dat", tmp_path / "ml-10m-tags" / "tags.dat.gz"]
    for file in files:
        file.parent.mkdir()
        file.touch()
    assert find_log() == Log(MOVIELENS, tuple(files))


def test_fingerprint_follows_contents_and_options(tmp_path):
    file = tmp_path / "ratings.dat"
    file.write_text("1")
    log = Log(MOVIELENS, (file,))
    before = fingerprint(log)

    assert fingerprint(log) == before
    file.write_text("2")
    changed = fingerprint(log)
    assert changed != before
    assert fingerprint(dataclasses.replace(log, options=DemoConfig(seed=7))) != changed


@pytest.mark.e2e
def test_log_is_prepared_once(tmp_path):
    log = Log(DEMO, options=DemoConfig(num_users=80, num_tags=64, num_items=80, num_categories=4))
    lines = []
    folder = training_data.prepare(log, tmp_path, lines.append)
    data = training_data.load(folder)

    assert data.num_tags <= 64
    assert data.snapshots.num_examples > 80  # several of every training user
    assert (label_examples(data.snapshots, log.config.training) > 0).any()
    assert len(lines) >= 2
    lines.clear()
    assert training_data.prepare(log, tmp_path, lines.append) == folder
    assert len(lines) == 1
