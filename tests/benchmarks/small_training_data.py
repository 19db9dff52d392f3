"""A few random training snapshots with MovieLens's columns, for the benchmark of training."""

import numpy as np

from benchmarks.training_data import TrainingData
from tfx_pipeline.config.pipeline import load_config
from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots

NUM_TAGS, NUM_PROFILE_IDS = 30, 4
SPEC = load_config("movielens-1m").features
SIZES = {
    "tags": NUM_TAGS + 1,
    **{f.profile_vocabulary_name(p.name): NUM_PROFILE_IDS for p in SPEC.profile},
}


def ragged(rows, dtype=np.int32):
    """Returns lists of lists as a ragged column."""
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return ListValues(np.array([value for row in rows for value in row], dtype), offsets)


def training_data(num_snapshots: int = 40, seed: int = 0) -> TrainingData:
    """Makes users with 0 to 9 values a domain, 1 to 5 labels (-1: unknown) and 3 impressions."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 10, (len(SPEC.domains), num_snapshots))
    lists = {}
    for domain, lengths in zip(SPEC.domains, sizes, strict=True):
        rows = [rng.choice(NUM_TAGS, n, replace=False) for n in lengths]
        lists[domain.name] = ragged(rows)
        lists[f.weights_name(domain.name)] = ragged(
            [rng.integers(1, 5, n) for n in lengths], np.float32
        )
    labels = [
        rng.choice(NUM_TAGS + 1, n, replace=False) - 1 for n in rng.integers(1, 6, num_snapshots)
    ]
    lists[f.LABEL_TAGS] = ragged(labels)
    lists[f.LABEL_TAG_WEIGHTS] = ragged([np.ones(len(row)) for row in labels], np.float32)
    lists[f.IMPRESSION_TAGS] = ragged(rng.integers(0, NUM_TAGS, (num_snapshots, 6)))
    lists[f.IMPRESSION_NUM_TAGS] = ragged(np.full((num_snapshots, 3), 2))
    lists[f.IMPRESSION_CLICKED] = ragged(rng.integers(0, 2, (num_snapshots, 3)), np.float32)
    lists[f.IMPRESSION_WEIGHTS] = ragged(np.ones((num_snapshots, 3)), np.float32)
    scalars = {
        p.name: rng.integers(0, NUM_PROFILE_IDS, num_snapshots).astype(np.int64)
        for p in SPEC.profile
    }
    return TrainingData(Snapshots(scalars, lists), SIZES, NUM_TAGS)
