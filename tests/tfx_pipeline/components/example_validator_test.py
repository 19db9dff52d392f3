"""Anomalies fail the run, with the feature named."""

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tfx.types import artifact_utils, standard_artifacts

from tests.tfx_pipeline.examples.snapshot_messages import serialize_snapshot
from tfx_pipeline.components.example_validator import Executor
from tfx_pipeline.examples.tf_examples import build_schema
from trainer.contract import features as f

SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("gender", values=("F", "M")),), domains=(f.Domain("clicked_tags"),)
)


def snapshot(gender):
    return serialize_snapshot(
        {
            f.USER_ID: "u",
            f.SNAPSHOT_TIME: 1,
            f.HISTORY_NUM_EVENTS: 0,
            "gender": gender,
            "clicked_tags": ["jazz"],
            "clicked_tags_weights": [1.0],
        },
        SPEC,
    )


def validate(folder, genders):
    path = folder / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for gender in genders:
            writer.write(snapshot(gender))
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder / "statistics")
    statistics.split_names = artifact_utils.encode_split_names(["train"])
    split = folder / "statistics" / "Split-train"
    split.mkdir(parents=True)
    found = tfdv.generate_statistics_from_tfrecord(str(path))
    (split / "FeatureStats.pb").write_bytes(found.SerializeToString())
    schema = standard_artifacts.Schema()
    schema.uri = str(folder / "schema")
    (folder / "schema").mkdir()
    text = text_format.MessageToString(build_schema(SPEC))
    (folder / "schema" / "schema.pbtxt").write_text(text)
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(folder / "anomalies")
    Executor().Do(
        {"statistics": [statistics], "schema": [schema]},
        {"anomalies": [anomalies]},
        {"exclude_splits": "[]"},
    )


def test_declared_values_pass(tmp_path):
    validate(tmp_path, ["F", "M", ""])


def test_undeclared_value_fails_with_the_feature_named(tmp_path):
    with pytest.raises(ValueError, match="feature `gender` of split train") as error:
        validate(tmp_path, ["F", "X"])
    assert "`features.profile[].values`" in str(error.value)
