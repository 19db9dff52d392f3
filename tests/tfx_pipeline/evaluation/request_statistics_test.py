"""Logged requests as the server reads them, and the messages about unreadable ones."""

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv

from tests.tfx_pipeline.examples.snapshot_messages import serialize_snapshot
from tfx_pipeline.config.gate import DistributionThreshold
from tfx_pipeline.evaluation.distributions import compare_requests
from tfx_pipeline.evaluation.request_statistics import request_statistics, request_values
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature

SPEC = FeatureSpec(profile=(ProfileFeature("segment"),), domains=(Domain("clicked"),))


def test_what_a_request_leaves_out_means_what_it_means_to_the_server():
    assert request_values({}, SPEC) == {"segment": "", "clicked": [], "clicked_weights": []}
    assert request_values({"clicked": ["jazz", "pop"]}, SPEC) == {
        "segment": "",
        "clicked": ["jazz", "pop"],
        "clicked_weights": [1.0, 1.0],
    }
    whole = {"segment": "a", "clicked": ["jazz"], "clicked_weights": [2]}
    assert request_values(whole, SPEC) == whole


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"colour": "red"}, "`features` must be among segment, clicked, clicked_weights."),
        ({"segment": 3}, "`segment` must be a string."),
        ({"clicked": "jazz"}, "`clicked` must be a list of strings."),
        ({"clicked": ["jazz"], "clicked_weights": [1, 2]}, "one for each of the 1 values"),
        ({"clicked": ["jazz"], "clicked_weights": ["1"]}, "`clicked_weights` must be a list of"),
    ],
)
def test_request_that_the_server_would_refuse_has_its_reason(features, message):
    with pytest.raises(ValueError) as error:
        request_values(features, SPEC)
    assert message in str(error.value)


def test_requests_of_a_folder_are_counted_with_their_values(tmp_path):
    lines = [
        {"segment": "a", "clicked": ["jazz", "pop"]},
        {"segment": "b", "clicked": ["jazz"], "clicked_weights": [3.0]},
        {"user_id": "u", "clicked": []},
    ]
    first = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "a.jsonl").write_text(first + 'no json\n{"segment": 3}\n', encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"segment": "a"}\n')

    found = request_statistics(str(tmp_path), SPEC)

    assert found.num_requests == 4
    assert [reason.partition(":")[0] for reason in found.rejected] == [
        "The line is not JSON",
        "`segment` must be a string. Received",
    ]
    (data,) = found.statistics.datasets
    by_name = {feature.path.step[0]: feature for feature in data.features}
    counts = {
        name: {bucket.label: bucket.sample_count for bucket in feature}
        for name, feature in (
            (name, by_name[name].string_stats.rank_histogram.buckets)
            for name in ("segment", "clicked")
        )
    }
    assert counts == {"segment": {"a": 2, "b": 1, "": 1}, "clicked": {"jazz": 2, "pop": 1}}
    assert by_name["clicked_weights"].num_stats.mean == pytest.approx(5 / 3)


def test_statistics_are_those_of_the_same_examples_and_of_any_batches(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(50):
        tags = rng.choice(["jazz", "pop", "rock", "é"], rng.integers(0, 4), replace=False).tolist()
        weights = rng.random(len(tags)).astype(np.float32).tolist()
        segment = str(rng.choice(["a", "b", ""]))
        rows.append({"segment": segment, "clicked": tags, "clicked_weights": weights})
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    records = str(tmp_path / "records")
    with tf.io.TFRecordWriter(records) as writer:
        for row in rows:
            writer.write(serialize_snapshot(row, SPEC))
    training = tfdv.generate_statistics_from_tfrecord(records)
    thresholds = {
        "segment": DistributionThreshold(l_infinity=0.0, jensen_shannon=0.0),
        "clicked": DistributionThreshold(l_infinity=0.0),
        "clicked_weights": DistributionThreshold(jensen_shannon=0.0),
    }

    monkeypatch.setattr("tfx_pipeline.evaluation.request_statistics._BATCH_ROWS", 7)
    found = request_statistics(str(path), SPEC)

    assert found.num_requests == 50
    compared = compare_requests(found.statistics, training, thresholds)
    assert [c.value for c in compared] == pytest.approx([0, 0, 0, 0], abs=1e-2)
    by_name = [
        {feature.path.step[0]: feature for feature in statistics.datasets[0].features}
        for statistics in (found.statistics, training)
    ]
    for name in SPEC.raw_names:
        ours, beams = (features[name] for features in by_name)
        kind = "num_stats" if name == "clicked_weights" else "string_stats"
        common = [getattr(feature, kind).common_stats for feature in (ours, beams)]
        assert common[0].num_non_missing == common[1].num_non_missing
        assert common[0].tot_num_values == common[1].tot_num_values


def test_nothing_that_can_be_read_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="`requests` must match at least one file"):
        request_statistics(str(tmp_path / "none.jsonl"), SPEC)
    (tmp_path / "bad.jsonl").write_text("no json\n")
    with pytest.raises(ValueError, match="`requests` must hold a request that can be read"):
        request_statistics(str(tmp_path / "bad.jsonl"), SPEC)
