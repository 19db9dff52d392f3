"""TFX's `run_fn`: reads transformed examples, trains the model, saves the towers; no maths."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from trainer.config import ModelConfig, RankingConfig, TrainingConfig
from trainer.contract import features as f
from trainer.contract.config_loader import from_saved, to_mapping
from trainer.contract.manifest import check_manifest, write_manifest
from trainer.contract.whole_files import write_json
from trainer.data.input_data import (
    load_snapshots,
    load_tags,
    load_vocabularies,
    tag_frequencies,
    vocabulary_sizes,
)
from trainer.data.vocabulary_losses import check_nothing_lost
from trainer.evaluation.calibration import calibrate
from trainer.evaluation.linear_path import add_linear_path, fit_path
from trainer.evaluation.second_stage import choose_second_stage
from trainer.fitting.checkpoints import CheckpointFolder, training_key
from trainer.fitting.distribution import Replicas
from trainer.fitting.initial_values import set_initial_values
from trainer.fitting.loop import build_model, fit
from trainer.fitting.memory_estimate import estimate_memory, require_memory
from trainer.fitting.model_state import build_optimizer
from trainer.fitting.optimizer import make_optimizer
from trainer.fitting.warm_start import WarmStart, save_training_state, start_from
from trainer.model import InterestModel
from trainer.saved.saved_towers import save_towers
from trainer.towers.tag_views import load_tag_attributes

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

# Keys of `custom_config`; each value is JSON.
MODEL_KEY = "model"
TRAINING_KEY = "training"
RANKING_KEY = "ranking"
SEED_KEY = "seed"
CHECKPOINTS_KEY = "checkpoints"  # folder of unfinished trainings
TAGS_FILE_KEY = "tags_file"  # path of `tags.jsonl`: clicks, impressions, category by tag
TAG_VECTORS_KEY = "tag_vectors"  # path of the file of tag vectors; "": none
TAG_VECTORS_FINGERPRINT_KEY = "tag_vectors_fingerprint"  # never read; part of the cache's key

# File beside the SavedModel with the resolved configuration and the figures of the training.
TRAINING_FILE = "training.json"

_NO_BEGINNING = "No training begins with it; roll its version back, or remove its folder."

_progress = logging.getLogger("tagtower.train")


def run_fn(fn_args: "FnArgs", replicas: Replicas | None = None) -> None:
    """Trains on the transformed examples that TFX names and saves the towers where it says.

    Args:
      fn_args: Arguments of TFX. `custom_config` has `features`, `model`, `training`, `ranking` and
        `seed`, each as JSON; training begins from `base_model`, if there is one.
      replicas: Replicas on which the model is trained; None: those that the configuration names.

    Raises:
      ValueError: The configuration or the data has a fault that `fit`, `Replicas.of` or
        `start_from` names.
    """
    config: Mapping[str, str] = fn_args.custom_config
    spec = from_saved(f.FeatureSpec, json.loads(config[f.FEATURES_KEY]), f.FEATURES_KEY)
    model_config = from_saved(ModelConfig, json.loads(config[MODEL_KEY]), MODEL_KEY)
    training_config = from_saved(TrainingConfig, json.loads(config[TRAINING_KEY]), TRAINING_KEY)
    ranking_config = from_saved(RankingConfig, json.loads(config[RANKING_KEY]), RANKING_KEY)
    seed = int(json.loads(config[SEED_KEY]))

    # This comes first: processes that train together must connect before TensorFlow does anything.
    replicas = replicas or Replicas.of(training_config.strategy)

    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    vocabularies = load_vocabularies(transform_output, spec)
    train = load_snapshots(fn_args.train_files, transform_output)
    validation = load_snapshots(fn_args.eval_files, transform_output)
    _progress.info(
        "%d training snapshots, %.0f MB in memory", train.num_examples, train.nbytes / 1e6
    )

    check_nothing_lost(train, spec, {name: len(values) for name, values in vocabularies.items()})
    tags = load_tags(transform_output)
    sizes = vocabulary_sizes(transform_output, spec)
    frequencies = tag_frequencies(train, spec, len(tags))
    tag_attributes = None
    if model_config.tag_views:
        vectors_file = config.get(TAG_VECTORS_KEY, "")
        tag_attributes = load_tag_attributes(config[TAGS_FILE_KEY], tags, vectors_file)

    def make_model() -> InterestModel:
        return InterestModel(
            spec,
            sizes,
            len(tags),
            model_config,
            training_config,
            seed=seed,
            tag_frequencies=frequencies,
            tag_attributes=tag_attributes,
        )

    memory = estimate_memory(
        make_model,
        train,
        num_replicas=replicas.num_local,
        has_base_model=bool(fn_args.base_model),
    )
    _progress.info("memory, estimated: %s", memory)
    require_memory(memory, training_config)

    tf_keras.utils.set_random_seed(seed)
    model = make_model()
    warm_start = None
    if fn_args.base_model:
        check_manifest(fn_args.base_model, remedy=_NO_BEGINNING)
        build_model(model, train)
        # Rows of values that the earlier model does not have begin at these values.
        set_initial_values(model, train)
        build_optimizer(model, make_optimizer(training_config))
        warm_start = start_from(fn_args.base_model, model, vocabularies)
        _log_warm_start(warm_start)
    checkpoints = _checkpoint_folder(
        config,
        vocabularies=vocabularies,
        train=train.fingerprint,
        validation=validation.fingerprint,
        base_model=fn_args.base_model,
    )
    path, path_note = None, ""
    if replicas.is_chief:  # only the chief evaluates
        bound = training_config.max_memory_mb
        room = None if bound is None else bound - memory.process_mb
        path, path_note = fit_path(model_config, spec, len(tags), train, validation, room)
    result = fit(
        model,
        train,
        validation,
        seed,
        fn_args.model_run_dir,
        start=None if warm_start is None else warm_start.state,
        checkpoints=checkpoints,
        replicas=replicas,
        make_replica=make_model,
        path=path,
    )
    if not replicas.is_chief:
        # All processes have the same model now; the chief saves it.
        return
    save_training_state(fn_args.serving_model_dir, model, vocabularies)
    linear_path = add_linear_path(model, path, path_note, validation)
    second_stage = choose_second_stage(model, validation, ranking_config)
    calibration = calibrate(model, validation, ranking_config.num_candidates, second_stage.memory)
    save_towers(
        model,
        transform_output,
        fn_args.serving_model_dir,
        second_stage.click_weight,
        calibration.items,
    )
    summary = {
        "features": to_mapping(spec),
        "model": to_mapping(model_config),
        "training": to_mapping(training_config),
        "seed": seed,
        "num_tags": model.num_tags,
        "memory_estimate": memory.to_mapping(),
        "fit": dataclasses.asdict(result),
        "warm_start": None
        if warm_start is None
        else {name: dataclasses.asdict(rows) for name, rows in warm_start.rows.items()},
        "linear_path": dataclasses.asdict(linear_path),
        "second_stage": dataclasses.asdict(second_stage),
        "calibration": dataclasses.asdict(calibration),
    }
    write_json(os.path.join(fn_args.serving_model_dir, TRAINING_FILE), summary)
    write_manifest(fn_args.serving_model_dir)
    if checkpoints is not None:
        checkpoints.remove()


def _checkpoint_folder(config: Mapping[str, str], **inputs: Any) -> CheckpointFolder | None:
    """Returns the checkpoint folder of a training, named after the inputs that set its result."""
    if not config.get(CHECKPOINTS_KEY):
        return None
    # The content of files determines the result, their paths do not.
    by_value = {k: v for k, v in config.items() if k not in (CHECKPOINTS_KEY, TAGS_FILE_KEY)}
    if TAGS_FILE_KEY in config:
        with tf.io.gfile.GFile(config[TAGS_FILE_KEY]) as file:
            inputs["tags"] = hashlib.blake2b(file.read().encode()).hexdigest()
    key = training_key(config=by_value, **inputs)
    return CheckpointFolder(os.path.join(config[CHECKPOINTS_KEY], key))


def _log_warm_start(warm_start: WarmStart) -> None:
    for name, rows in warm_start.rows.items():
        _progress.info(
            "warm start: %s: %d rows kept, %d new, %d retired",
            name,
            rows.kept,
            rows.new,
            rows.retired,
        )
    if not warm_start.has_slots:
        _progress.info("warm start: another optimizer than the last model's, its slots are fresh")
