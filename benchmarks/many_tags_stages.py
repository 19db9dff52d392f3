"""Stages of a run with a large vocabulary; each function runs in a process of its own.

The work is the pipeline's own: `trainer.fitting.loop`, `trainer.saved.saved_towers`,
`tfx_pipeline.components.tag_index_builder` and what they call.
"""

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import many_tags_log as log
from benchmarks.stage_meter import Stage, StageMeter
from trainer.contract import features as f
from trainer.contract.whole_files import write_json
from trainer.data.snapshots import Snapshots

TRANSFORM, TOWERS, INDEX = "transform", "towers/Format-Serving", "index"
VALIDATION_EXAMPLES = "validation.tfrecord.gz"
NUM_TRAIN, NUM_VALIDATION = 10_240, 256
K, TARGET_RECALL = 100, 0.98
_VALIDATION_SEED = 1


class StepCase:
    """A training over `num_tags` tags that is held in its process and takes steps on request."""

    def __init__(self, num_tags: int):
        """Builds model, optimizer and compiled step as `trainer.fitting.loop.fit` does."""
        import tensorflow as tf

        from trainer.fitting.loop import build_model, compile_step
        from trainer.fitting.model_state import build_optimizer
        from trainer.fitting.optimizer import make_optimizer

        train = log.snapshots(NUM_TRAIN, num_tags, log.SEED)
        model = make_model(num_tags)
        build_model(model, train)
        build_optimizer(model, make_optimizer(log.TRAINING))
        batch_size = log.TRAINING.batch_size
        batches = iter(train.step_dataset(batch_size, log.SEED, model.training_names))
        self._step = compile_step(model, batches, tf.distribute.get_strategy())
        self.steps(3)

    def steps(self, count: int) -> float:
        """Takes steps and returns their seconds."""
        started = time.perf_counter()
        losses = [self._step()["loss"] for _ in range(count)]
        values = [float(loss) for loss in losses]
        seconds = time.perf_counter() - started
        if not np.isfinite(values).all():
            raise ValueError("`loss` must be finite.")
        return seconds


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Figures of a training.

    Attributes:
      stages: Seconds and memory by stage.
      estimate_mb: Memory of the training in MB, as estimated before it began.
      validation_seconds: Seconds of an evaluation, before the epoch or after it.
    """

    stages: dict[str, Stage]
    estimate_mb: float
    validation_seconds: float


def write_transform(folder: str, num_tags: int) -> dict[str, Stage]:
    """Writes the transform and measures it."""
    meter = StageMeter()
    with meter.stage("transform"):
        log.write_transform(num_tags, Path(folder))
    return meter.stages


def train(folder: str, num_tags: int) -> Fitted:
    """Trains for an epoch, chooses the second stage, calibrates, and saves the towers."""
    import tensorflow_transform as tft

    from trainer.config import RankingConfig
    from trainer.contract.config_loader import to_mapping
    from trainer.data.input_data import load_vocabularies
    from trainer.evaluation.calibration import calibrate
    from trainer.evaluation.second_stage import choose_second_stage
    from trainer.fitting.checkpoints import CheckpointFolder
    from trainer.fitting.loop import fit
    from trainer.fitting.memory_estimate import estimate_memory
    from trainer.fitting.warm_start import save_training_state
    from trainer.saved.saved_towers import save_towers
    from trainer.task import TRAINING_FILE

    meter = StageMeter()
    transform = tft.TFTransformOutput(str(Path(folder) / TRANSFORM))
    with meter.stage("vocabularies"):
        vocabularies = load_vocabularies(transform, log.SPEC)
    snapshots = log.snapshots(NUM_TRAIN, num_tags, log.SEED)
    validation = log.snapshots(NUM_VALIDATION, num_tags, _VALIDATION_SEED)
    _write_examples(validation, vocabularies[f.TAG_VOCABULARY], Path(folder))
    with meter.stage("estimate"):
        estimate = estimate_memory(lambda: make_model(num_tags), snapshots)
    with meter.stage("fit"):
        model = make_model(num_tags)
        model.tag_tower.embeddings.assign(log.tag_vectors(num_tags))
        checkpoints = CheckpointFolder(str(Path(folder) / "checkpoints"))
        result = fit(model, snapshots, validation, log.SEED, checkpoints=checkpoints)
        checkpoints.remove()
    with meter.stage("second_stage"):
        stage = choose_second_stage(model, validation, RankingConfig())
    with meter.stage("calibration"):
        calibrations = calibrate(model, validation, RankingConfig().num_candidates, stage.memory)
    towers = Path(folder) / TOWERS
    with meter.stage("save"):
        save_training_state(str(towers), model, vocabularies)
        save_towers(model, transform, str(towers), stage.click_weight, calibrations.items)
    summary = {
        "features": to_mapping(log.SPEC),
        "second_stage": dataclasses.asdict(stage),
        "calibration": dataclasses.asdict(calibrations),
    }
    write_json(towers / TRAINING_FILE, summary)
    return Fitted(meter.stages, estimate.total_mb, result.seconds_per_evaluation)


def build_index(folder: str, export_exact: bool = True) -> dict[str, Stage]:
    """Builds and tunes the index over saved towers, and exports both servables."""
    import tensorflow as tf

    from serving.index.evaluation import read_serialized
    from tfx_pipeline.components.tag_index_builder import build_servables
    from tfx_pipeline.config.serving import IndexConfig, TagPolicyConfig
    from trainer.contract.tag_normalization import TagNormalization

    meter, towers = StageMeter(), Path(folder) / TOWERS
    lines = _Lines()
    logger = logging.getLogger("tfx_pipeline.components.tag_index_builder")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    started = time.time()
    with meter.stage("index"):
        build_servables(
            tf.saved_model.load(str(towers)),
            str(towers),
            read_serialized([str(Path(folder) / VALIDATION_EXAMPLES)]),
            str(Path(folder) / INDEX),
            IndexConfig(kind="scann", k=K, target_recall=TARGET_RECALL, export_exact=export_exact),
            TagPolicyConfig(),
            TagNormalization(),
            {},
        )
    # A line of progress ends each part: loading and building, tuning, exporting.
    times = [started, *lines.times]
    for name, before, after in zip(("index_build", "index_tuning"), times, times[1:], strict=False):
        meter.stages[name] = Stage(after - before, meter.stages["index"].peak_mb)
    whole = meter.stages["index"]
    meter.stages["export"] = Stage(started + whole.seconds - times[-1], whole.peak_mb)
    return meter.stages


class _Lines(logging.Handler):
    """Records the times at which lines were logged."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.times.append(record.created)


def servable_path(folder: str) -> Path:
    """Returns the folder of the servable with the index that `build_index` wrote."""
    return Path(folder).absolute() / INDEX / "Format-Serving"


def evaluate_index(folder: str, servable: Path) -> tuple[dict[str, Stage], dict[str, Any]]:
    """Runs the gate's own measurement of the index on the saved files."""
    from serving.index.evaluation import evaluate_servable
    from serving.index.scann_index import register_scann_ops

    register_scann_ops()
    meter = StageMeter()
    with meter.stage("gate"):
        figures = evaluate_servable(str(servable), [str(Path(folder) / VALIDATION_EXAMPLES)])
    return meter.stages, dataclasses.asdict(figures)


def instances(folder: str, num_users: int, num_tags: int, seed: int) -> list[dict[str, Any]]:
    """Makes raw features of users, for callers."""
    import tensorflow_transform as tft

    from trainer.data.input_data import load_tags

    tags = load_tags(tft.TFTransformOutput(str(Path(folder) / TRANSFORM)))
    return log.instances(log.snapshots(num_users, num_tags, seed), tags)


def make_model(num_tags: int) -> Any:
    """Makes an untrained model for the benchmarks' log."""
    import tf_keras

    from trainer.model import InterestModel

    tf_keras.utils.set_random_seed(log.SEED)
    # One bucket for unknown tags; for segments one bucket and the id of the unknown segment.
    sizes = {
        f.TAG_VOCABULARY: num_tags + 1,
        f.profile_vocabulary_name("segment"): len(log.SEGMENTS) + 2,
    }
    return InterestModel(
        log.SPEC,
        sizes,
        num_tags,
        log.MODEL,
        log.TRAINING,
        seed=log.SEED,
        tag_frequencies=np.ones(num_tags),
    )


def _write_examples(users: Snapshots, tags: list[str], folder: Path) -> None:
    import tensorflow as tf

    from tfx_pipeline.examples.columns import Column, NumberColumn, TextColumn, Texts
    from tfx_pipeline.examples.tf_examples import serialize_columns

    clicked = users.lists["clicked_tags"]
    columns: dict[str, Column] = {
        f.USER_ID: TextColumn.single(
            Texts(users.scalars[f.USER_ID].astype(str).astype(object)),
            np.arange(users.num_examples),
        ),
        "segment": TextColumn.single(
            Texts(np.array(["", *log.SEGMENTS], object)), users.scalars["segment"]
        ),
        "clicked_tags": TextColumn(Texts(np.array(tags, object)), clicked.values, clicked.offsets),
        f.weights_name("clicked_tags"): NumberColumn(
            np.ones(len(clicked.values), np.float32), clicked.offsets
        ),
    }
    with tf.io.TFRecordWriter(str(folder / VALIDATION_EXAMPLES), "GZIP") as writer:
        for example in serialize_columns(columns).to_pylist():
            writer.write(example)
