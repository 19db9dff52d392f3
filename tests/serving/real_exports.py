"""Both exports of one set of real towers and a real transform, without fitting.

The weights are random: tests with them check what a server loads and answers, not the quality of
the answers.
"""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata

from serving.index.scann_index import ScannIndex, SearchParameters
from serving.index.top_k import BruteForceIndex
from serving.servable.event_features import EventFeatures
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.tfx_pipeline.examples.snapshot_messages import serialize_snapshot
from tests.trainer.towers.user_tower_test import CONFIG
from tfx_pipeline.examples.tf_examples import build_schema
from tfx_pipeline.preprocessing import preprocessing_fn
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.config_loader import to_mapping
from trainer.contract.memory import DomainMemory
from trainer.contract.tag_normalization import TagNormalization
from trainer.data.input_data import vocabulary_sizes
from trainer.evaluation.calibration import Calibration
from trainer.model import InterestModel
from trainer.saved.saved_towers import save_towers

SPEC = f.FeatureSpec(profile=(f.ProfileFeature("gender"),), domains=(f.Domain("clicked"),))
# Columns that no tower reads, but the transform needs.
_LISTS = (
    f.IMPRESSION_TAGS,
    f.IMPRESSION_NUM_TAGS,
    f.IMPRESSION_CLICKED,
    f.IMPRESSION_WEIGHTS,
    f.HISTORY_TAGS,
    f.HISTORY_TAG_COUNTS,
    f.LABEL_ITEMS,
    f.HISTORY_ITEMS,
)
NUM_TAGS, NUM_USERS, K, NUM_CANDIDATES = 90, 30, 7, 20
MEMORY = (DomainMemory("clicked", 1.0, 10.0),)
USER_IDS = [f"somebody {i}" for i in range(NUM_USERS)]


@dataclasses.dataclass(frozen=True)
class Exports:
    """Saved towers and their exports, each made when it is first asked for.

    Attributes:
      folder: Folder of the towers and of the exports.
      memory: Memory of the exports.
      examples: Serialized examples of users with their ids and labels.
      spec: Features of the towers.
    """

    folder: Path
    memory: tuple[DomainMemory, ...]
    examples: list[bytes]
    spec: f.FeatureSpec

    @functools.cached_property
    def scann(self) -> Path:
        """Version folder of the export with ScaNN's index."""
        # It looks at everything, so that both find the same.
        return self._export(
            "scann", lambda vectors: ScannIndex(vectors, 6, SearchParameters(6, NUM_TAGS))
        )

    @functools.cached_property
    def exact(self) -> Path:
        """Version folder of the exact export."""
        return self._export("exact", BruteForceIndex)

    def _export(self, kind: str, make_index) -> Path:
        towers = tf.saved_model.load(str(self.folder / "towers"))
        vectors = towers.signatures[s.CANDIDATES]()[s.CANDIDATE_EMBEDDINGS].numpy()
        retrieval = TagRetrieval(
            towers,
            make_index(vectors),
            K,
            num_candidates=NUM_CANDIDATES,
            tag_slope=0.8,
            memory=self.memory,
        )
        description = {"index": {"kind": kind, "num_tags": NUM_TAGS}}
        version = self.folder / kind / "1"
        events = EventFeatures(self.spec, TagNormalization()) if self.spec.domains else None
        export_servable(retrieval, str(version), description, self.examples[:3], events)
        return version


def make_exports(
    folder: Path, memory: tuple[DomainMemory, ...] = MEMORY, spec: f.FeatureSpec = SPEC
) -> Exports:
    """Saves towers, from which either index is exported.

    `spec` may have further features: every user has some values of theirs.
    """
    rows = _rows(spec)
    metadata = dataset_metadata.DatasetMetadata(build_schema(spec))
    with tft_beam.Context(temp_dir=str(folder / "beam")):
        _, transform_fn = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            functools.partial(_transform, spec=spec)
        )
        transform_fn | tft_beam.WriteTransformFn(str(folder / "transform"))  # noqa: B018
    output = tft.TFTransformOutput(str(folder / "transform"))
    save_towers(_model(output, spec), output, str(folder / "towers"), 0.3, Calibration(1.7, -0.4))
    examples = [serialize_snapshot(_values(row), spec) for row in rows]
    return Exports(folder, memory, examples, spec)


def _transform(inputs, spec):
    return preprocessing_fn(inputs, {f.FEATURES_KEY: json.dumps(to_mapping(spec))})


def _rows(spec: f.FeatureSpec) -> list[dict]:
    """Returns raw rows of users; every tag is a label of some user."""
    rng = np.random.default_rng(0)
    tags = [b"tag %02d" % i for i in range(NUM_TAGS)]
    rows = []
    for i, user in enumerate(USER_IDS):
        clicked = rng.permutation(NUM_TAGS)[: rng.integers(0, 12)]
        rows.append(
            {
                **_further_values(spec, i),
                f.USER_ID: [user.encode()],
                f.SNAPSHOT_TIME: [100],
                f.HISTORY_NUM_EVENTS: [len(clicked)],
                "gender": [[b"F", b"M", b""][i % 3]],
                "clicked": [tags[j] for j in clicked],
                "clicked_weights": rng.integers(1, 9, len(clicked)).astype(float).tolist(),
                f.LABEL_TAGS: tags[3 * i : 3 * i + 3],
                f.LABEL_TAG_WEIGHTS: [1.0] * 3,
                **{name: [] for name in _LISTS},
            }
        )
    names = {f.USER_ID, f.SNAPSHOT_TIME, f.HISTORY_NUM_EVENTS, f.LABEL_TAGS, f.LABEL_TAG_WEIGHTS}
    names |= {*spec.raw_names, *_LISTS}
    return [{name: row[name] for name in row if name in names} for row in rows]


def _further_values(spec: f.FeatureSpec, user: int) -> dict:
    """Returns some values of every feature, by its kind."""
    letters = [b"a", b"b", b"c", b"d"][: 1 + user % 4]
    found: dict = {
        single.name: [float(user)] if single.is_number else letters[:1] for single in spec.singles
    }
    for listed in spec.lists:
        found[listed.name] = letters
        if listed.has_weights:
            # A domain of tags has tags of the labels, whose vocabulary it shares.
            if listed.attribute == "tags":
                found[listed.name] = [b"tag %02d" % (user + j) for j in range(len(letters))]
            found[f.weights_name(listed.name)] = [1.0] * len(letters)
    return found


def _values(row: dict) -> dict:
    return {
        name: [v.decode() if isinstance(v, bytes) else v for v in values]
        for name, values in row.items()
    }


def _model(output: tft.TFTransformOutput, spec: f.FeatureSpec) -> InterestModel:
    model = InterestModel(
        spec,
        vocabulary_sizes(output, spec),
        NUM_TAGS,
        dataclasses.replace(CONFIG, click_projection=False, output_dim=16),
        TrainingConfig(),
        seed=1,
    )
    ids = {single.name: tf.constant([0], tf.int64) for single in spec.singles}
    for listed in spec.lists:
        ids[listed.name] = tf.ragged.constant([[0]], tf.int64)
        if listed.has_weights:
            ids[f.weights_name(listed.name)] = tf.ragged.constant([[1.0]])
    model(ids)
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(scale=0.5, size=weight.shape))
    return model
