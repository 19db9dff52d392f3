"""TFX's `run_fn`: reads transformed examples, trains the model, saves the towers; no maths."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow_transform as tft
import tf_keras

from trainer.config import ModelConfig, RankingConfig, TrainingConfig
from trainer.contract import features as f
from trainer.contract.config_loader import from_saved, to_mapping
from trainer.contract.file_system import open_file
from trainer.contract.manifest import check_manifest, write_manifest
from trainer.contract.whole_files import write_json
from trainer.data.input_data import (
    load_snapshots,
    load_tags,
    load_vocabularies,
    tag_frequencies,
    vocabulary_sizes,
)
from trainer.data.snapshots import Snapshots
from trainer.data.vocabulary_losses import check_nothing_lost
from trainer.evaluation.calibration import calibrate
from trainer.evaluation.linear_path import FittedPath, add_linear_path, fit_path
from trainer.evaluation.second_stage import choose_second_stage
from trainer.fitting.checkpoints import CheckpointFolder, training_key
from trainer.fitting.distribution import Replicas
from trainer.fitting.initial_values import set_initial_values
from trainer.fitting.loop import build_model, fit
from trainer.fitting.memory_estimate import MemoryEstimate, estimate_memory, require_memory
from trainer.fitting.model_state import build_optimizer
from trainer.fitting.optimizer import make_optimizer
from trainer.fitting.warm_start import WarmStart, save_training_state, start_from
from trainer.model import InterestModel
from trainer.saved.saved_towers import save_towers
from trainer.towers.tag_views import TagAttributes, load_tag_attributes

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


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What `custom_config` says of a training."""

    spec: f.FeatureSpec
    model: ModelConfig
    training: TrainingConfig
    ranking: RankingConfig
    seed: int

    @classmethod
    def read(cls, config: Mapping[str, str]) -> "_Settings":
        return cls(
            from_saved(f.FeatureSpec, json.loads(config[f.FEATURES_KEY]), f.FEATURES_KEY),
            from_saved(ModelConfig, json.loads(config[MODEL_KEY]), MODEL_KEY),
            from_saved(TrainingConfig, json.loads(config[TRAINING_KEY]), TRAINING_KEY),
            from_saved(RankingConfig, json.loads(config[RANKING_KEY]), RANKING_KEY),
            int(json.loads(config[SEED_KEY])),
        )


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What is read for a training, and the models that are made of it."""

    settings: _Settings
    vocabularies: dict[str, list[str]]
    train: Snapshots
    validation: Snapshots
    num_tags: int
    vocabulary_sizes: dict[str, int]
    tag_frequencies: np.ndarray
    tag_attributes: TagAttributes | None

    @classmethod
    def load(
        cls, fn_args: "FnArgs", settings: _Settings, transform_output: tft.TFTransformOutput
    ) -> "_Inputs":
        spec = settings.spec
        vocabularies = load_vocabularies(transform_output, spec)
        train = load_snapshots(fn_args.train_files, transform_output)
        validation = load_snapshots(fn_args.eval_files, transform_output)
        _progress.info(
            "%d training snapshots, %.0f MB in memory", train.num_examples, train.nbytes / 1e6
        )
        check_nothing_lost(
            train, spec, {name: len(values) for name, values in vocabularies.items()}
        )
        tags = load_tags(transform_output)
        sizes = vocabulary_sizes(transform_output, spec)
        frequencies = tag_frequencies(train, spec, len(tags))
        attributes = None
        if settings.model.tag_views:
            config = fn_args.custom_config
            vectors_file = config.get(TAG_VECTORS_KEY, "")
            attributes = load_tag_attributes(config[TAGS_FILE_KEY], tags, vectors_file)
        return cls(
            settings,
            vocabularies,
            train,
            validation,
            num_tags=len(tags),
            vocabulary_sizes=sizes,
            tag_frequencies=frequencies,
            tag_attributes=attributes,
        )

    def make_model(self) -> InterestModel:
        """A fresh model, not built."""
        return InterestModel(
            self.settings.spec,
            self.vocabulary_sizes,
            self.num_tags,
            self.settings.model,
            self.settings.training,
            seed=self.settings.seed,
            tag_frequencies=self.tag_frequencies,
            tag_attributes=self.tag_attributes,
        )


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
    settings = _Settings.read(fn_args.custom_config)
    # First of all: processes that train together find one another before TensorFlow does anything.
    replicas = replicas or Replicas.of(settings.training.strategy)
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    inputs = _Inputs.load(fn_args, settings, transform_output)
    memory = _required_memory(inputs, replicas.num_local, bool(fn_args.base_model))

    tf_keras.utils.set_random_seed(settings.seed)
    model = inputs.make_model()
    warm_start = _begin_with(fn_args.base_model, model, inputs) if fn_args.base_model else None
    checkpoints = _checkpoint_folder(
        fn_args.custom_config,
        vocabularies=inputs.vocabularies,
        train=inputs.train.fingerprint,
        validation=inputs.validation.fingerprint,
        base_model=fn_args.base_model,
    )
    path, path_note = None, ""
    if replicas.is_chief:  # which alone evaluates
        path, path_note = _fit_path(inputs, memory)
    result = fit(
        model,
        inputs.train,
        inputs.validation,
        settings.seed,
        fn_args.model_run_dir,
        start=None if warm_start is None else warm_start.state,
        checkpoints=checkpoints,
        replicas=replicas,
        make_replica=inputs.make_model,
        path=path,
    )
    if not replicas.is_chief:
        # All processes have the same model now; the chief saves it.
        return
    save_training_state(fn_args.serving_model_dir, model, inputs.vocabularies)
    linear_path = add_linear_path(model, path, path_note, inputs.validation)
    figures = {
        "memory_estimate": memory.to_mapping(),
        "fit": dataclasses.asdict(result),
        "warm_start": None if warm_start is None else _row_counts(warm_start),
        "linear_path": dataclasses.asdict(linear_path),
    }
    _calibrate_and_save(model, inputs, transform_output, fn_args.serving_model_dir, figures)
    if checkpoints is not None:
        checkpoints.remove()


def _required_memory(inputs: _Inputs, num_replicas: int, has_base_model: bool) -> MemoryEstimate:
    """What the training will take; refuses what the configuration does not allow."""
    memory = estimate_memory(
        inputs.make_model,
        inputs.train,
        num_replicas=num_replicas,
        has_base_model=has_base_model,
    )
    _progress.info("memory, estimated: %s", memory)
    require_memory(memory, inputs.settings.training)
    return memory


def _begin_with(base_model: str, model: InterestModel, inputs: _Inputs) -> WarmStart:
    """Builds a fresh model and its optimizer, and reads what of a saved one they begin with."""
    check_manifest(base_model, remedy=_NO_BEGINNING)
    build_model(model, inputs.train)
    # Rows of values that the earlier model does not know begin there.
    set_initial_values(model, inputs.train)
    build_optimizer(model, make_optimizer(inputs.settings.training))
    warm_start = start_from(base_model, model, inputs.vocabularies)
    _log_warm_start(warm_start)
    return warm_start


def _fit_path(inputs: _Inputs, memory: MemoryEstimate) -> tuple[FittedPath | None, str]:
    """The linear path, or why there is none, within what the memory's bound leaves."""
    settings = inputs.settings
    bound = settings.training.max_memory_mb
    room = None if bound is None else bound - memory.process_mb
    return fit_path(
        settings.model, settings.spec, inputs.num_tags, inputs.train, inputs.validation, room
    )


def _row_counts(warm_start: WarmStart) -> dict[str, Any]:
    return {name: dataclasses.asdict(rows) for name, rows in warm_start.rows.items()}


def _calibrate_and_save(
    model: InterestModel,
    inputs: _Inputs,
    transform_output: tft.TFTransformOutput,
    directory: str,
    figures: Mapping[str, Any],
) -> None:
    """Chooses the second stage, calibrates, and saves the towers, the summary and the manifest.

    Args:
      model: The trained model.
      inputs: Inputs of the training.
      transform_output: The transform its examples came from.
      directory: Where to write.
      figures: Figures of the training, as they stand in the summary.
    """
    settings = inputs.settings
    second_stage = choose_second_stage(model, inputs.validation, settings.ranking)
    calibration = calibrate(
        model, inputs.validation, settings.ranking.num_candidates, second_stage.memory
    )
    save_towers(model, transform_output, directory, second_stage.click_weight, calibration.items)
    summary = {
        "features": to_mapping(settings.spec),
        "model": to_mapping(settings.model),
        "training": to_mapping(settings.training),
        "seed": settings.seed,
        "num_tags": model.num_tags,
        **figures,
        "second_stage": dataclasses.asdict(second_stage),
        "calibration": dataclasses.asdict(calibration),
    }
    write_json(os.path.join(directory, TRAINING_FILE), summary)
    write_manifest(directory)


def _checkpoint_folder(config: Mapping[str, str], **inputs: Any) -> CheckpointFolder | None:
    """Returns the checkpoint folder of a training, named after the inputs that set its result."""
    if not config.get(CHECKPOINTS_KEY):
        return None
    # The content of files determines the result, their paths do not.
    by_value = {k: v for k, v in config.items() if k not in (CHECKPOINTS_KEY, TAGS_FILE_KEY)}
    if TAGS_FILE_KEY in config:
        with open_file(config[TAGS_FILE_KEY], "rb") as file:
            inputs["tags"] = hashlib.blake2b(file.read()).hexdigest()
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
        _progress.info(
            "warm start: the optimizer is not the last model's, its state is initialised"
        )
