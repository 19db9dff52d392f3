"""Every value in the tables, with awkward characters too, is in the vocabularies."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from serving.client import EventFeatures
from tagtower_client.feature_tensors import InputSlot, to_list_tensor, to_tensors
from tagtower_client.line_breaks import one_line
from tests.tfx_pipeline.examples.example_runs import run_examples
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.moments import user_part
from tfx_pipeline.examples.tf_examples import build_schema
from tfx_pipeline.preprocessing import preprocessing_fn
from tfx_pipeline.tables.line_breaks import without_line_breaks
from trainer.contract import features as f
from trainer.contract.config_loader import to_mapping
from trainer.contract.tag_normalization import TagNormalization
from trainer.data.snapshots import Snapshots
from trainer.data.vocabulary_losses import check_nothing_lost, count_lost_values

# What a table holds -> the value of a category, a profile or an item id.
VALUES = {
    "plain": "plain",
    "line\nfeed": "line feed",
    "carriage\rreturn": "carriage return",
    "windows\r\nbreak": "windows break",
    "several\n\n\r\nbreaks": "several breaks",
    "\nat the ends\r\n": "at the ends",
    " blanks at the ends ": " blanks at the ends ",
    "tab\tinside": "tab\tinside",
    "vertical\vtab": "vertical\vtab",
    "form\ffeed": "form\ffeed",
    "file\x1cseparator": "file\x1cseparator",
    "record\x1eseparator": "record\x1eseparator",
    "end\x1aof file": "end\x1aof file",
    "nul\0inside": "nul\0inside",
    "nul at the end\0": "nul at the end\0",
    "next\x85line": "next\x85line",
    "line\u2028separator": "line\u2028separator",
    "paragraph\u2029separator": "paragraph\u2029separator",
    "\ufeffbyte order mark": "\ufeffbyte order mark",
    "zero\u200bwidth": "zero\u200bwidth",
    "no-break\u00a0blank": "no-break\u00a0blank",
    "emoji \U0001f600": "emoji \U0001f600",
    "last \U0010ffff": "last \U0010ffff",
    "quote \" ' ` and \\n": "quote \" ' ` and \\n",
    "comma, semicolon; |bar": "comma, semicolon; |bar",
    "-1": "-1",
    "long " * 20_000 + ".": "long " * 20_000 + ".",
}
# A tag moreover loses its blanks at the ends (and here nothing is in capitals).
TAGS = {value: expected.strip() for value, expected in VALUES.items()}

SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("country"),),
    domains=(
        f.Domain("clicked"),
        f.Domain("categories", attribute="category"),
        f.Domain("items", attribute="item_id"),
    ),
)
CONFIG = ExamplesConfig(snapshots_per_user=3, max_train_impressions=1000, max_label_tags=1000)
NOW = 2_000_000


def item_id(value):
    return f"i{value}i"  # an id of its own also where only blanks at the ends differ


def train_users(number):
    names = (f"u{i}" for i in range(10_000))
    found = [name for name in names if user_part(name, CONFIG) == "train"]
    return found[:number]


USERS = train_users(len(VALUES))


def tables(folder):
    values, order = list(VALUES), np.random.default_rng(7)
    items = [{"item_id": item_id(v), "tags": [v], "category": v} for v in values]
    events = [
        {"user_id": user, "item_id": item_id(values[i]), "timestamp": 1000 + place, "clicked": 1}
        for user in USERS
        for place, i in enumerate(order.permutation(len(values)))
    ]
    users = [{"user_id": u, "country": v} for u, v in zip(USERS, values, strict=True)]
    folder.mkdir()
    paths = []
    for name, rows in (("interactions", events), ("items", items), ("users", users)):
        paths.append(str(folder / f"{name}.parquet"))
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), paths[-1])
    return DataConfig(*paths), events


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("awkward")
    data, events = tables(folder / "tables")
    return run_examples(folder / "run", data, SPEC, CONFIG), events


@pytest.fixture(scope="module")
def transform(run, tmp_path_factory):
    """Returns the fitted transform, and the training examples through it."""
    folder = tmp_path_factory.mktemp("transform")
    schema = build_schema(SPEC)
    spec = schema_utils.schema_as_feature_spec(schema).feature_spec
    examples = run[0]
    records = [
        record
        for path in sorted(map(str, examples.folder.glob("examples/Split-train/*")))
        for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator()
    ]
    rows = [tf.io.parse_single_example(record, spec) for record in records]
    raw = [
        {
            name: (value.values if isinstance(value, tf.SparseTensor) else value).numpy()
            for name, value in row.items()
        }
        for row in rows
    ]
    config = {f.FEATURES_KEY: json.dumps(to_mapping(SPEC))}
    with tft_beam.Context(temp_dir=str(folder / "beam")):
        metadata = dataset_metadata.DatasetMetadata(schema)
        _, fitted = (raw, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
        fitted | tft_beam.WriteTransformFn(str(folder / "graph"))  # noqa: B018 (Beam's way)
    output = tft.TFTransformOutput(str(folder / "graph"))
    known = {name: spec[name] for name in spec if name not in (f.LABEL_ITEMS, f.HISTORY_ITEMS)}
    columns = output.transform_features_layer()(tf.io.parse_example(records, known))
    return output, Snapshots.from_batches([columns])


EXPECTED = {
    f.TAG_VOCABULARY: set(TAGS.values()),
    "category": set(VALUES.values()),
    "item_id": {one_line(item_id(value)) for value in VALUES},
    f.profile_vocabulary_name("country"): set(VALUES.values()),
}


def test_no_row_is_rejected(run):
    assert run[0].rejected == []
    assert run[0].counts["rows.read.items"] == len(VALUES)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_value_of_the_tables_is_in_its_vocabulary(transform, name):
    output, _ = transform
    found = [value.decode() for value in output.vocabulary_by_name(name)]

    assert len(found) == len(set(found)) == output.vocabulary_size_by_name(name)
    assert set(found) == EXPECTED[name]


def test_every_value_of_the_examples_has_the_id_of_its_place(transform):
    output, snapshots = transform
    sizes = {name: output.vocabulary_size_by_name(name) for name in EXPECTED}

    assert count_lost_values(snapshots, SPEC, sizes) == dict.fromkeys(EXPECTED, 0)
    check_nothing_lost(snapshots, SPEC, sizes)


def test_table_of_the_served_tags_finds_each_of_them(transform):
    output, _ = transform
    tags = output.vocabulary_by_name(f.TAG_VOCABULARY)

    # As `trainer.saved.saved_towers` reads them.
    initializer = tf.lookup.TextFileInitializer(
        output.vocabulary_file_by_name(f.TAG_VOCABULARY),
        key_dtype=tf.string,
        key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        value_dtype=tf.int64,
        value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    found = tf.lookup.StaticHashTable(initializer, -1).lookup(tf.constant(tags))

    assert found.numpy().tolist() == list(range(len(VALUES)))


def test_live_caller_sends_what_the_examples_hold(run):
    examples, events = run
    stored = {row.pop("user_id"): row for row in examples.instances}
    value_of = {item_id(value): value for value in VALUES}
    for user, country in zip(USERS, VALUES, strict=True):
        own = [
            {**event, "tags": [value_of[event["item_id"]]], "category": value_of[event["item_id"]]}
            for event in events
            if event["user_id"] == user
        ]
        instance = EventFeatures(SPEC, TagNormalization()).instance(own, {"country": country}, NOW)
        assert instance == stored[user]


@pytest.mark.parametrize(("value", "expected"), VALUES.items())
def test_client_and_batch_prediction_send_one_line(value, expected):
    slots = {"country": InputSlot(True, False), "categories": InputSlot(True, True)}
    tensors = to_tensors([{"country": value, "categories": ["a", value]}], slots)

    assert tensors["country"].tolist() == [expected.encode()]
    assert tensors["categories"].tolist() == [[b"a", expected.encode()]]
    assert to_list_tensor("allow_categories", [[value]], 1).tolist() == [[expected.encode()]]


def test_column_becomes_one_line_in_place_and_order():
    column = pa.array(["a\nb", "", "c", "a\nb", "\r\n"])

    assert without_line_breaks(column).to_pylist() == ["a b", "", "c", "a b", ""]
    assert without_line_breaks(column.slice(1, 2)).to_pylist() == ["", "c"]
    assert without_line_breaks(column.slice(0, 0)).to_pylist() == []
    assert without_line_breaks(pa.array([], pa.string())).to_pylist() == []


LOST = [
    # ids of profile, tags, categories; limits of `category`; what is counted
    ([0, 1, 2], [0, 1], [0, 1], f.Vocabulary(), {"profile_country": 0, "tags": 0, "category": 0}),
    ([3, 3, 1], [0, 1], [0, 1], f.Vocabulary(), {"profile_country": 2, "tags": 0, "category": 0}),
    ([0, 1, 2], [-1, 2], [2, 2], f.Vocabulary(), {"profile_country": 0, "tags": 2, "category": 2}),
    # A full or thinned vocabulary is as configured; one with room has lost values.
    ([0, 1, 2], [0, 1], [2], f.Vocabulary(max_size=2), {"profile_country": 0, "tags": 0}),
    ([0, 1, 2], [0, 1], [2], f.Vocabulary(min_frequency=2), {"profile_country": 0, "tags": 0}),
    (
        [0, 1, 2],
        [0, 1],
        [2],
        f.Vocabulary(max_size=3),
        {"profile_country": 0, "tags": 0, "category": 1},
    ),
]


@pytest.mark.parametrize(("countries", "tags", "categories", "limits", "expected"), LOST)
def test_values_out_of_an_unlimited_vocabulary_are_counted(
    countries, tags, categories, limits, expected
):
    spec = f.FeatureSpec(
        profile=(f.ProfileFeature("country"),),
        domains=(f.Domain("categories", attribute="category"),),
        vocabularies={"category": limits},
    )
    lists = {f.LABEL_TAGS: tags, f.IMPRESSION_TAGS: [0], "categories": categories}
    snapshots = Snapshots.from_batches(
        [
            {
                "country": np.array(countries),
                **{
                    name: tf.ragged.constant([values, [], []], tf.int64)
                    for name, values in lists.items()
                },
            }
        ]
    )
    sizes = {"profile_country": 2, "tags": 2, "category": 2}

    assert count_lost_values(snapshots, spec, sizes) == expected
    lost = {name: count for name, count in expected.items() if count}
    if not lost:
        check_nothing_lost(snapshots, spec, sizes)
        return
    name, count = next(iter(lost.items()))
    with pytest.raises(ValueError) as caught:
        check_nothing_lost(snapshots, spec, sizes)
    assert str(caught.value) == (
        f"The vocabulary `{name}` must hold every value of the training examples, because "
        f"nothing limits its size. Received: 2 values, and {count} others in the examples. "
        "Remove the control characters from that column of the tables."
    )
