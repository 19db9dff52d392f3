"""Checkpoints are read as written, whole or not at all, and only by their own training."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.toy_training import train_part, validation_part
from trainer.contract.whole_files import unfinished
from trainer.fitting.checkpoints import Checkpoint, CheckpointFolder, Progress, training_key
from trainer.fitting.early_stopping import EarlyStopping
from trainer.fitting.model_state import ModelState


def checkpoint(step: int) -> Checkpoint:
    rng = np.random.default_rng(step)
    weights = {"tag_tower.embeddings": rng.normal(size=(5, 3)), "dropout.num_calls": np.array(7)}
    slots = {"momentums": {"tag_tower.embeddings": rng.normal(size=(5, 3)).astype(np.float32)}}
    progress = Progress(
        EarlyStopping(2, min_steps=5, steps=[0, 10], values=[0.1 + 0.2, None]),
        first_iteration=70,
        step=step,
        losses=[1.5, 1 / 3],
        history=[{"ndcg_at_10": 0.3, "click_gauc": None}, {"ndcg_at_10": 0.2, "click_gauc": 0.5}],
        loss_since=0.1,
    )
    best = {"tag_tower.embeddings": rng.normal(size=(5, 3))}
    return Checkpoint(ModelState(weights, slots, step), best, progress)


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.progress == expected.progress
    pairs = [(found.state.to_arrays(), expected.state.to_arrays())]
    pairs.append((found.best_weights, expected.best_weights))
    for arrays, others in pairs:
        assert arrays.keys() == others.keys()
        for name, value in others.items():
            assert arrays[name].dtype == value.dtype
            np.testing.assert_array_equal(arrays[name], value)


def test_last_checkpoint_comes_back_to_the_last_digit(tmp_path):
    folder = CheckpointFolder(str(tmp_path / "training"))
    folder.save(checkpoint(step=10))
    folder.save(checkpoint(step=20))

    assert_same(folder.load(), checkpoint(step=20))
    assert len(list((tmp_path / "training").iterdir())) == 1


def test_file_half_written_beside_it_changes_nothing(tmp_path):
    folder = CheckpointFolder(str(tmp_path))
    folder.save(checkpoint(step=10))
    (file,) = tmp_path.iterdir()
    half = Path(unfinished(str(file)))
    half.write_bytes(file.read_bytes()[:500])

    assert_same(folder.load(), checkpoint(step=10))
    folder.save(checkpoint(step=20))
    assert_same(folder.load(), checkpoint(step=20))


def test_folder_without_a_checkpoint_is_a_fresh_start_and_can_be_removed(tmp_path):
    folder = CheckpointFolder(str(tmp_path / "training"))

    assert folder.load() is None
    folder.remove()
    folder.save(checkpoint(step=10))
    folder.remove()
    assert folder.load() is None
    assert not (tmp_path / "training").exists()


def key(**changes):
    parts = {
        "config": {"model": '{"hidden_dim": 16}', "seed": "0"},
        "train": train_part().fingerprint,
        "base_model": None,
    }
    return training_key(**{**parts, **changes})


def test_same_training_has_the_same_key():
    assert key() == key(config={"seed": "0", "model": '{"hidden_dim": 16}'})
    assert len(key()) == 32 and key().isalnum()


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"model": '{"hidden_dim": 17}', "seed": "0"}},
        {"config": {"model": '{"hidden_dim": 16}', "seed": "1"}},
        {"train": validation_part().fingerprint},
        {"base_model": "models/3"},
    ],
)
def test_another_training_has_another_key(changes):
    assert key(**changes) != key()


def test_fingerprint_sees_every_column_and_no_more():
    users = train_part()
    same = users.take(np.arange(users.num_examples))
    assert same.fingerprint == users.fingerprint

    other = users.take(np.arange(users.num_examples))
    other.lists["label_tags"].values[-1] += 1
    assert other.fingerprint != users.fingerprint
    other = users.take(np.arange(users.num_examples))
    other.scalars["user_id"][3] = b"somebody else"
    assert other.fingerprint != users.fingerprint
    # The same values in lists of other lengths.
    other = users.take(np.arange(users.num_examples))
    other.lists["label_tags"].offsets[1] -= 1
    assert other.fingerprint != users.fingerprint
