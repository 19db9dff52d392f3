import dataclasses
import json

import numpy as np
import pytest

from benchmarks import batch_users
from benchmarks.batch_users import BatchMeasurement, MemoryOverTime, faults, flatten, measure, table
from serving.index.top_k import BruteForceIndex
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.report_keys import undocumented_keys, unwritten_keys
from tests.toy_towers import ToyTowers

MEASURED = BatchMeasurement(1000, 1000, 3, 2.0, 500.0, 800.0, 816.0, 830.0, 1.0, 2.0)


def test_keys_are_documented_and_shown():
    figures = flatten(MEASURED)

    assert figures["batch_users.users_per_second"] == 500
    assert figures["batch_users.memory_growth"] == pytest.approx(1.02)
    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/batch_users.py") == []
    assert len(table(figures).splitlines()) == 2 + len(figures)
    assert faults(figures) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"num_predicted": 999}, "999 of 1000 users are in the output"),
        ({"memory_end_mb": 900.0}, "memory grew 1.12 times, at most 1.1 is flat"),
    ],
)
def test_lost_users_and_growing_memory_are_faults(change, fault):
    assert faults(flatten(dataclasses.replace(MEASURED, **change))) == [fault]


def test_base_path_without_a_version_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_BASE_PATH", str(tmp_path))
    with pytest.raises(ValueError, match="^`MODEL_BASE_PATH` must be .* `make run` makes one"):
        batch_users.run(print)


def test_every_user_is_predicted_in_shards(tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    ToyTowers(rng.standard_normal((9, 4)), rng.standard_normal((12, 4))).save(tmp_path / "towers")
    towers = tf.saved_model.load(str(tmp_path / "towers"))
    vectors = towers.signatures["candidates"]()["candidate_embeddings"].numpy()
    version = tmp_path / "version" / "1"
    description = {"index": {"num_tags": 12}}
    retrieval = TagRetrieval(towers, BruteForceIndex(vectors), 5)
    export_servable(retrieval, str(version), description)
    path = tmp_path / "instances.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"user_id": f"u{i}", "name": f"u{i % 9}"}) + "\n" for i in range(70)
        )

    measured = measure(str(version), path, 70)

    assert (measured.num_predicted, measured.num_shards) == (70, 1)
    assert measured.users_per_second == pytest.approx(70 / measured.seconds)
    assert measured.peak_mb >= max(measured.memory_begin_mb, measured.memory_end_mb) > 50


def test_medians_are_those_of_their_share_of_the_time():
    memory = MemoryOverTime()
    memory._samples = [float(i) for i in range(100)]

    assert memory.median_mb(0.1, 0.2) == pytest.approx(14.5)
    assert memory.median_mb(0.9, 1.0) == pytest.approx(94.5)
    assert memory.median_mb(0.0, 1.0, highest=True) == 99
