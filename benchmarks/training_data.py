"""Prepares the log of the training benchmark once and keeps it as plain arrays.

Tables, examples and transform are the pipeline's own (`tfx_pipeline.runs.prepared_examples`). The
arrays are kept under build/bench/training/ with a fingerprint of everything from which they were
made: a second run loads arrays and never imports TFX.
"""

import dataclasses
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Progress
from tfx_pipeline.config.pipeline import PipelineConfig, load_config, to_json
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.fingerprints import code_fingerprint, files_fingerprint
from trainer.contract.whole_files import write_json

if TYPE_CHECKING:
    from trainer.config import TrainingConfig
    from trainer.data.snapshots import Snapshots

ROOT = Path(__file__).resolve().parent.parent
MOVIELENS, DEMO = "movielens-1m", "demo"

_SPLIT = "train"
_ARRAYS_FILE, _ABOUT_FILE, _KEY_FILE = "train.npz", "about.json", "key"
# Modules whose code is in the fingerprint, as in the pipeline's cache key, so that arrays are made
# anew when their code changes.
_CODE = (
    "tfx_pipeline.components.example_gen",
    "tfx_pipeline.preprocessing",
    "tfx_pipeline.datasets.movielens_1m",
    "tfx_pipeline.datasets.demo",
    "trainer.data.input_data",
)


@dataclasses.dataclass(frozen=True)
class Log:
    """A log for the benchmark.

    Attributes:
      name: Name of the log and of its configuration, `movielens-1m` or `demo`.
      sources: Files from which the log is read; empty: it is generated.
      options: Options of a generated log.
    """

    name: str
    sources: tuple[Path, ...] = ()
    options: DemoConfig = dataclasses.field(default_factory=DemoConfig)

    @property
    def config(self) -> PipelineConfig:
        """The configuration that is shipped for the log."""
        return load_config(self.name)


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Data from which a model or a peer is built.

    Attributes:
      snapshots: Transformed training snapshots.
      vocabulary_sizes: Numbers of ids by vocabulary name, with the buckets for unknown values.
      num_tags: Number of candidates.
    """

    snapshots: "Snapshots"
    vocabulary_sizes: dict[str, int]
    num_tags: int


def find_log() -> Log:
    """Finds MovieLens-1M (in `MOVIELENS_DIR`, else ../shared/data); otherwise the demo log."""
    folder = Path(os.environ.get("MOVIELENS_DIR") or ROOT.parent / "shared" / "data").absolute()
    ratings = sorted((folder / "ml-1m").glob("*.dat*"))
    tags = folder / "ml-10m-tags" / "tags.dat.gz"
    if ratings and tags.is_file():
        return Log(MOVIELENS, (*ratings, tags))
    return Log(DEMO)


def prepare(log: Log, folder: Path, progress: Progress) -> Path:
    """Makes the arrays of a log unless they exist.

    Args:
      log: The log.
      folder: Folder for tables, pipeline output and arrays.
      progress: Function called with a line before each long step.

    Returns:
      The folder that `load` reads.

    Raises:
      ValueError: The log has a fault that its user made; the message is one line.
    """
    arrays = folder / "arrays"
    key = fingerprint(log)
    kept = arrays / _KEY_FILE
    if kept.is_file() and kept.read_text(encoding="utf-8") == key:
        progress(f"{log.name}: transformed examples from {os.path.relpath(arrays)}")
        return arrays
    shutil.rmtree(arrays, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    call_in_fresh_process(progress, f"{log.name}: tables", write_tables, log, folder / "tables")
    call_in_fresh_process(
        progress, f"{log.name}: examples and transform", write_arrays, log, folder, arrays
    )
    kept.write_text(key, encoding="utf-8")  # written last, so that interrupted work is repeated
    return arrays


def fingerprint(log: Log) -> str:
    """Hashes everything from which the arrays of a log are made: files, options, code."""
    parts = [
        to_json(log.config),
        to_json(log.options),
        files_fingerprint(map(str, log.sources)),
        code_fingerprint(*_CODE),
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def write_tables(log: Log, output: Path) -> None:
    """Writes the three tables of a log."""
    if log.name == MOVIELENS:
        from tfx_pipeline.datasets.movielens_1m import prepare_movielens_1m

        *ratings, tags = log.sources
        prepare_movielens_1m(str(ratings[0].parent), str(tags), str(output))
    else:
        from tfx_pipeline.datasets.demo import prepare_demo

        prepare_demo(str(output), log.options)


def write_arrays(log: Log, folder: Path, arrays: Path) -> None:
    """Runs the pipeline's nodes up to Transform and writes the training split's columns."""
    from tfx_pipeline.runs.prepared_examples import prepare_examples
    from tfx_pipeline.terminal.console import Console
    from trainer.data.input_data import load_tags, vocabulary_sizes

    tables = folder / "tables"
    config = log.config
    data = dataclasses.replace(
        config.data,
        interactions=str(tables / "interactions"),
        items=str(tables / "items.parquet"),
        users=str(tables / "users.parquet"),
    )
    config = dataclasses.replace(config, data=data, output=str(folder / "pipeline"))
    examples = prepare_examples(config, Console(io.StringIO()))
    transform = examples.transform_output
    sizes = vocabulary_sizes(transform, config.features)
    save(
        TrainingData(examples.snapshots(_SPLIT), sizes, len(load_tags(transform))),
        training_columns(config),
        arrays,
    )


def training_columns(config: PipelineConfig) -> tuple[str, ...]:
    """Returns the names of features and labels that any objective reads."""
    from trainer.contract import features as f

    return (
        *config.features.raw_names,
        f.LABEL_TAGS,
        f.LABEL_TAG_WEIGHTS,
        f.IMPRESSION_TAGS,
        f.IMPRESSION_NUM_TAGS,
        f.IMPRESSION_CLICKED,
        f.IMPRESSION_WEIGHTS,
    )


def save(data: TrainingData, names: tuple[str, ...], folder: Path) -> None:
    """Writes the columns `names` for `load`."""
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        if name in data.snapshots.scalars:
            arrays[f"scalar/{name}"] = data.snapshots.scalars[name]
        else:
            arrays[f"values/{name}"] = data.snapshots.lists[name].values
            arrays[f"offsets/{name}"] = data.snapshots.lists[name].offsets
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / _ARRAYS_FILE, **arrays)
    about = {
        "num_snapshots": data.snapshots.num_examples,
        "vocabulary_sizes": data.vocabulary_sizes,
        "num_tags": data.num_tags,
    }
    write_json(folder / _ABOUT_FILE, about)


def describe(folder: Path) -> dict[str, Any]:
    """Returns sizes of the saved data: `num_snapshots`, `num_tags`, `vocabulary_sizes`."""
    return json.loads((folder / _ABOUT_FILE).read_text(encoding="utf-8"))


def load(folder: Path) -> TrainingData:
    """Reads the data that `save` wrote."""
    from trainer.contract.list_column import ListValues
    from trainer.data.snapshots import Snapshots

    about = describe(folder)
    scalars, lists = {}, {}
    with np.load(folder / _ARRAYS_FILE) as arrays:
        for key in arrays.files:
            kind, _, name = key.partition("/")
            if kind == "scalar":
                scalars[name] = arrays[key]
            elif kind == "values":
                lists[name] = ListValues(arrays[key], arrays[f"offsets/{name}"])
    return TrainingData(Snapshots(scalars, lists), about["vocabulary_sizes"], about["num_tags"])


def label_examples(snapshots: "Snapshots", config: "TrainingConfig") -> np.ndarray:
    """Counts the label examples of every snapshot, int64 [num_snapshots].

    A label example is a pair of a snapshot and a known tag that was clicked later, or an
    impression, where a loss with a weight above 0 reads it. A tag counts once, however often it was
    clicked, and an impression once, however many losses read it.
    """
    from trainer.contract import features as f

    total = np.zeros(snapshots.num_examples, np.int64)
    if config.multi_class_weight:
        labels = snapshots.lists[f.LABEL_TAGS]
        total += np.bincount(labels.known_pairs()[0], minlength=len(total))
    clicked = snapshots.lists[f.IMPRESSION_CLICKED]
    if config.click_objective:
        total += np.diff(clicked.offsets)
    elif config.multi_class_joint_weight:  # reads clicked impressions alone
        total += np.bincount(clicked.row_ids[clicked.values > 0], minlength=len(total))
    return total
