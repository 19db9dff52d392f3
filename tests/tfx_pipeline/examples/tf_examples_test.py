"""Serialized snapshots, and a schema that reads them and finds deviations."""

import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders import example_coder

from tests.tfx_pipeline.examples.example_runs import parse
from tests.tfx_pipeline.examples.random_users import COLUMNS, canonical
from tests.tfx_pipeline.examples.snapshot_messages import serialize_snapshot
from tests.tfx_pipeline.examples.user_snapshots import user_snapshots
from tests.trainer.random_logs import PROPERTY, SPEC, START, records
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.columns import NumberColumn, TextColumn, Texts
from tfx_pipeline.examples.packed_events import to_user_events
from tfx_pipeline.examples.tf_examples import build_schema, serialize_columns
from trainer.contract import features as f
from trainer.contract.list_column import offsets_of

DECLARED = f.FeatureSpec(
    profile=(f.ProfileFeature("gender", values=("F", "M")), f.ProfileFeature("age")),
    domains=(f.Domain("clicked"),),
)
VALUES = {
    "user_id": "ü1",
    "snapshot_time": 1_000_000_000_000,
    "gender": "",
    "age": "30",
    "clicked": ["b", "𝄞"],
    "clicked_weights": [2.5, 1.0],
    "label_tags": [],
    "label_tags_weights": [],
    "impression_tags": ["a", "b", "a"],
    "impression_num_tags": [2, 1],
    "impression_clicked": [1.0, 0.0],
    "impression_weights": [1, 0.5],
    "history_tags": ["a"],
    "history_tags_counts": [3],
    "history_num_events": 0,
    "label_items": ["i1", "ü"],
    "history_items": [],
}


def test_values_keep_their_types():
    parsed = parse(serialize_snapshot(VALUES, DECLARED))
    expected = {
        name: value if isinstance(value, list) else [value] for name, value in VALUES.items()
    }
    assert parsed == expected
    features = tf.train.Example.FromString(serialize_snapshot(VALUES, DECLARED)).features.feature
    kinds = {name: features[name].WhichOneof("kind") for name in VALUES}
    declared = {
        schema_pb2.BYTES: "bytes_list",
        schema_pb2.INT: "int64_list",
        schema_pb2.FLOAT: "float_list",
    }
    for feature in build_schema(DECLARED).feature:
        assert kinds[feature.name] == declared[feature.type], feature.name


def test_equal_values_give_equal_bytes_whatever_the_order_of_names():
    expected = serialize_snapshot(VALUES, DECLARED)
    names = list(VALUES)
    for seed in range(5):
        random.Random(seed).shuffle(names)
        assert serialize_snapshot({name: VALUES[name] for name in names}, DECLARED) == expected
    assert serialize_snapshot({**VALUES, "age": "31"}, DECLARED) != expected


def columns_of(rows):
    """Returns values of snapshots as columns: by name, one list for each snapshot."""
    integers = {f.SNAPSHOT_TIME, f.IMPRESSION_NUM_TAGS, f.HISTORY_NUM_EVENTS}
    columns = {}
    for name, first in rows[0].items():
        is_single = not isinstance(first, list)
        lists = [[row[name]] if is_single else row[name] for row in rows]
        values = [value for one in lists for value in one]
        offsets = offsets_of(np.array([len(one) for one in lists]))
        if name in integers:
            columns[name] = NumberColumn(np.array(values, np.int64), offsets, is_single)
        elif name in FLOATS:
            columns[name] = NumberColumn(np.array(values, np.float32), offsets, is_single)
        else:
            texts = Texts(pa.array(values, pa.string()))
            columns[name] = TextColumn(texts, np.arange(len(values)), offsets, is_single)
    return columns


FLOATS = {"clicked_weights", "label_tags_weights", "history_tags_counts"} | {
    "impression_clicked",
    "impression_weights",
}
texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.floats(width=32, allow_nan=False)
VALUES_OF_SNAPSHOTS = st.fixed_dictionaries(
    {
        "user_id": texts,
        "snapshot_time": st.integers(0, 2**40),
        "gender": texts,
        "age": texts,
        "clicked": st.lists(texts, max_size=3) | st.just(["ü" * 100] * 400),
        "clicked_weights": st.lists(numbers, max_size=3) | st.just([0.5] * 50),
        "label_tags": st.lists(texts, max_size=2) | st.just(["x" * 70_000]),
        "impression_num_tags": st.lists(st.integers(0, 300), max_size=150),
        "impression_clicked": st.lists(st.sampled_from([0.0, 1.0]), max_size=70),
        "history_num_events": st.integers(0, 20_000),
        "history_items": st.lists(texts, max_size=3),
    }
)


@PROPERTY
@hypothesis.given(st.lists(VALUES_OF_SNAPSHOTS, min_size=1, max_size=5))
def test_columns_give_protobufs_bytes(rows):
    """The lists have no, few and very many bytes, so their lengths take every number of bytes."""
    found = serialize_columns(columns_of(rows)).to_pylist()
    assert found == [serialize_snapshot(row, DECLARED) for row in rows]
    for record, row in zip(found, rows, strict=True):
        expected = {n: v if isinstance(v, list) else [v] for n, v in row.items()}
        assert parse(record) == expected


def test_long_name_of_a_feature_is_protobufs_too():
    name = "long_" * 40
    spec = f.FeatureSpec(profile=(f.ProfileFeature(name),))
    (found,) = serialize_columns(columns_of([{name: "x"}])).to_pylist()
    assert found == serialize_snapshot({name: "x"}, spec)


@PROPERTY
@hypothesis.given(records())
def test_every_snapshot_is_read_back_by_the_schema(rows):
    feature_spec = schema_utils.schema_as_feature_spec(build_schema(SPEC)).feature_spec
    events = to_user_events(canonical(rows), COLUMNS)
    for snapshot in user_snapshots("u", events, None, SPEC, ExamplesConfig(), START * 2):
        parsed = parse(serialize_snapshot(snapshot.values, SPEC))
        assert set(parsed) <= set(feature_spec)
        for name, value in snapshot.values.items():
            assert parsed[name] == (value if isinstance(value, list) else [value]), name


def test_schema_declares_single_values_and_lists():
    feature_spec = schema_utils.schema_as_feature_spec(build_schema(DECLARED)).feature_spec
    single = {"user_id", "snapshot_time", "history_num_events", "gender", "age"}
    for name in VALUES:
        kind = tf.io.FixedLenFeature if name in single else tf.io.VarLenFeature
        assert isinstance(feature_spec[name], kind), name
    assert set(feature_spec) == set(VALUES)


def anomalies(**changes):
    """Returns reasons by feature name for one example with changed values."""
    values = {**VALUES, "gender": "F", **changes}
    serialized = serialize_snapshot(values, DECLARED)
    batch = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch([serialized])
    statistics = stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())
    found = tfdv.validate_statistics(statistics, build_schema(DECLARED))
    kinds = anomalies_pb2.AnomalyInfo.Type
    return {
        name: {kinds.Name(reason.type) for reason in info.reason}
        for name, info in found.anomaly_info.items()
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"gender": ""}, {}),  # unknown is allowed
        ({"gender": "X"}, {"gender": {"ENUM_TYPE_UNEXPECTED_STRING_VALUES"}}),
        ({"age": "anything"}, {}),  # no values declared
    ],
)
def test_value_outside_the_declared_ones_is_an_anomaly(changes, expected):
    assert anomalies(**changes) == expected


@pytest.mark.parametrize("changes", [{"age": []}, {"age": ["1", "2"]}])
def test_profile_feature_that_is_not_there_exactly_once_is_an_anomaly(changes):
    assert set(anomalies(**changes)) == {"age"}


@pytest.mark.parametrize("name", ["label_tags", "clicked", "history_tags", "label_items"])
def test_empty_lists_are_no_anomaly(name):
    assert anomalies(**{name: []}) == {}


def test_undeclared_column_is_an_anomaly():
    assert anomalies(surprise="x") == {"surprise": {"SCHEMA_NEW_COLUMN"}}
