"""Toy rows of every kind of feature, and the graph that Transform makes of them."""

import json
from pathlib import Path

import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from tfx_pipeline.examples.tf_examples import build_schema
from tfx_pipeline.preprocessing import preprocessing_fn
from trainer.contract import features as f
from trainer.contract.config_loader import to_mapping

SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("gender"), f.ProfileFeature("age", num_oov_buckets=3)),
    domains=(
        f.Domain("clicked"),  # shares `tags` with the labels
        f.Domain("skipped", events="skipped"),  # and with it
        f.Domain("recent", vocabulary="recent_tags"),  # does not
        f.Domain("categories", attribute="category"),
        f.Domain("items", attribute="item_id"),
    ),
    vocabularies={
        "tags": f.Vocabulary(num_oov_buckets=2),
        "category": f.Vocabulary(max_size=2, num_oov_buckets=3),
        "item_id": f.Vocabulary(min_frequency=2),
    },
)
CUSTOM_CONFIG = {f.FEATURES_KEY: json.dumps(to_mapping(SPEC))}
EMPTY = {
    "user_id": [b"u"],
    "snapshot_time": [7],
    "gender": [b""],
    "age": [b""],
    "history_num_events": [0],
    **{domain.name: [] for domain in SPEC.domains},
    **{f.weights_name(domain.name): [] for domain in SPEC.domains},
    "label_tags": [],
    "label_tags_weights": [],
    "impression_tags": [],
    "impression_num_tags": [],
    "impression_clicked": [],
    "impression_weights": [],
    "history_tags": [],
    "history_tags_counts": [],
    "label_items": [],
    "history_items": [],
}
# Raw features of evaluation alone, which are joined there by user: no tensors are made of them.
RAW_ONLY = {"label_items", "history_items"}
# Tags, over labels, impressions, clicked and skipped: pop 5, jazz 3, new age 2, folk 1.
TRAIN = [
    {
        **EMPTY,
        "user_id": [b"u1"],
        "snapshot_time": [100],
        "gender": [b"F"],
        "age": [b"30"],
        "clicked": [b"pop", b"jazz"],
        "clicked_weights": [2.5, 0.5],
        "skipped": [b"folk"],
        "skipped_weights": [1.0],
        "recent": [b"jazz"],
        "recent_weights": [1.0],
        "categories": [b"x", b"y", b"z"],
        "categories_weights": [1.0, 1.0, 1.0],
        "items": [b"i1", b"i2"],
        "items_weights": [1.0, 1.0],
        "label_tags": [b"pop", b"new age"],
        "label_tags_weights": [3.0, 1.0],
        "impression_tags": [b"pop", b"jazz", b"new age"],
        "impression_num_tags": [2, 1],
        "impression_clicked": [1.0, 0.0],
        "impression_weights": [1.0, 0.5],
        "history_num_events": [4],
    },
    {
        **EMPTY,
        "user_id": [b"u2"],
        "snapshot_time": [200],
        "gender": [b"M"],
        "age": [b"30"],
        "clicked": [b"pop"],
        "clicked_weights": [1.0],
        "recent": [b"rock", b"jazz"],
        "recent_weights": [1.0, 1.0],
        "categories": [b"x", b"y"],
        "categories_weights": [1.0, 1.0],
        "items": [b"i1"],
        "items_weights": [4.0],
        "label_tags": [b"jazz", b"pop"],
        "label_tags_weights": [1.0, 1.0],
        # Only for evaluation: never part of a vocabulary.
        "history_tags": [b"history only", b"pop"],
        "history_tags_counts": [3.0, 1.0],
        "label_items": [b"i3"],
        "history_items": [b"i1", b"i2"],
    },
    {**EMPTY, "user_id": [b"u3"], "gender": [b"F"]},
]
TAGS = ["pop", "jazz", "new age", "folk"]


def metadata():
    return dataset_metadata.DatasetMetadata(build_schema(SPEC))


def transform(inputs):
    return preprocessing_fn(inputs, CUSTOM_CONFIG)


class Graph:
    """The analysed graph, as Trainer and the servable load it."""

    def __init__(self, folder, dataset):
        self.dataset = dataset
        self.output = tft.TFTransformOutput(str(folder))
        self._layer = self.output.transform_features_layer()

    def columns(self, examples):
        """Returns transformed tensors of raw rows, by name."""
        spec = schema_utils.schema_as_feature_spec(build_schema(SPEC)).feature_spec
        serialized = [_example(row).SerializeToString() for row in examples]
        parsed = tf.io.parse_example(serialized, {name: spec[name] for name in EMPTY})
        return self._layer(parsed)

    def rows(self, examples):
        """Returns transformed rows of lists of raw rows."""
        columns = {}
        for name, column in self.columns(examples).items():
            if isinstance(column, tf.SparseTensor):
                column = tf.RaggedTensor.from_sparse(column).to_list()
            else:
                column = column.numpy().tolist()
            columns[name] = column
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def vocabulary(self, name):
        return [tag.decode() for tag in self.output.vocabulary_by_name(name)]


def _example(row):
    example = tf.train.Example()
    for name, values in row.items():
        feature = example.features.feature[name]
        if name.endswith(("_weights", "_counts", "_clicked")):
            feature.float_list.value.extend(values)
        elif name in ("snapshot_time", "history_num_events", "impression_num_tags"):
            feature.int64_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(values)
    return example


def analysed(folder: Path) -> Graph:
    """Analyses `TRAIN`; the graph is written into the folder."""
    with tft_beam.Context(temp_dir=str(folder / "beam")):
        (dataset, _), transform_fn = (TRAIN, metadata()) | tft_beam.AnalyzeAndTransformDataset(
            transform
        )
        transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))  # noqa: B018 (Beam's way)
    return Graph(folder / "graph", dataset)
