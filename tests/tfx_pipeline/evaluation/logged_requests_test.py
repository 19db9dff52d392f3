"""Files of a request log as users' features: every kind of request, cut and damaged files."""

import gzip
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2

from serving.batch.files import log_files
from serving.batch.input import UnreadableInput
from serving.client.fresh_events import EventFeatures
from tagtower_client.tensor_proto import write_compact
from tfx_pipeline.evaluation.logged_requests import LogReader
from tfx_pipeline.evaluation.request_statistics import request_statistics
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature
from trainer.contract.tag_normalization import TagNormalization

SPEC = FeatureSpec(
    profile=(
        ProfileFeature("segment"),
        ProfileFeature("age", type="number"),
        ProfileFeature("likes", type="list"),
    ),
    domains=(
        Domain("clicked"),
        Domain("shops", attribute="category", weighting="recency", half_life_days=2.0),
    ),
)
NOW = 1_700_000_000


def text(values):
    return np.array(
        [[v.encode() for v in row] if isinstance(row, list) else row.encode() for row in values],
        object,
    )


def record(**inputs):
    request = predict_pb2.PredictRequest()
    for name, values in inputs.items():
        write_compact(request.inputs[name], np.asarray(values))
    log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()


def write(path, *records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for each in records:
            writer.write(each)
    return path


def read(path, spec=SPEC):
    reader = LogReader(spec, TagNormalization())
    return list(reader.read(str(path))), reader.counts


ROWS = {
    "segment": text(["a", ""]),
    "age": np.array([30, np.nan], np.float32),
    "likes": text([["x", "y"], ["z", ""]]),
    "clicked": text([["jazz", "pop"], ["", ""]]),
    "clicked_weights": np.array([[2, 1], [0, 0]], np.float32),
    "shops": text([["s", ""], ["t", "u"]]),
    "shops_weights": np.array([[0.5, 0], [1, 1]], np.float32),
}


def test_each_user_of_a_batch_is_one_without_padding_or_other_inputs(tmp_path):
    path = write(tmp_path / "a.tfrecord", record(**ROWS, exclude_tags=text([["pop"], [""]])))
    (first, second), counts = read(path)
    assert first == {
        "segment": "a",
        "age": 30.0,
        "likes": ["x", "y"],
        "clicked": ["jazz", "pop"],
        "clicked_weights": [2.0, 1.0],
        "shops": ["s"],
        "shops_weights": [0.5],
    }
    assert math.isnan(second.pop("age"))
    assert second == {
        "segment": "",
        "likes": ["z"],
        "clicked": [],
        "clicked_weights": [],
        "shops": ["t", "u"],
        "shops_weights": [1.0, 1.0],
    }
    assert (counts.num_cut_off, counts.num_without_features) == (0, 0)


def test_examples_are_read_and_requests_about_no_user_are_counted(tmp_path):
    example = tf.train.Example()
    example.features.feature["segment"].bytes_list.value.append(b"a")
    example.features.feature["user_id"].bytes_list.value.append(b"u")
    serialized = np.array([example.SerializeToString()], object)
    path = write(
        tmp_path / "a.tfrecord",
        record(examples=serialized),
        record(similar_to=text(["jazz"])),
        record(),
    )
    found, counts = read(path)
    assert found == [{"segment": "a"}]
    assert counts.num_without_features == 2


def test_what_cannot_be_read_has_its_reason(tmp_path):
    classify = prediction_log_pb2.PredictionLog(
        classify_log=prediction_log_pb2.ClassifyLog(
            request=classification_pb2.ClassificationRequest()
        )
    )
    path = write(
        tmp_path / "a.tfrecord",
        b"no message",
        classify.SerializeToString(),
        record(examples=np.array([b"no example"], object)),
        record(segment=np.array([1.5], np.float32)),
        record(clicked=text(["a"])),
    )
    found, _ = read(path)
    assert found[0].startswith("The record is not a PredictionLog: Error parsing message")
    assert found[1] == "`log_type` must be predict_log. Received: log_type='classify_log'."
    assert found[2].startswith("The record is not a tf.Example")
    # Of another type, or rank, than the feature has today.
    assert len(found) == 5 and all(isinstance(reason, str) for reason in found[3:])


EVENTS = (
    [
        {"item_id": "i1", "tags": ["Jazz", "pop"], "category": "s", "clicked": 1, "days": 1},
        {"item_id": "i2", "tags": ["pop"], "category": "t", "clicked": 1, "days": 3},
        {"item_id": "i3", "tags": ["rock"], "category": "s", "clicked": 1, "days": -1},
    ],
    [],
    [{"item_id": "i4", "tags": ["metal"], "category": "", "clicked": 0, "days": 2}],
)
PROFILE = {"segment": text(["a", "b", ""]), "age": np.array([1, 2, 3], np.float32)}
PROFILE["likes"] = text([["x"], [""], [""]])


def of_events(field, kind, padding):
    """Returns a field of all events, padded to [3, 3]."""
    rows = [[event[field] for event in events] for events in EVENTS]
    padded = [row + [padding] * (3 - len(row)) for row in rows]
    return text(padded) if kind is object else np.array(padded, kind)


def test_events_have_the_features_of_the_one_function_in_both_forms(tmp_path):
    for events in EVENTS:
        for event in events:
            event["time"] = NOW - 86_400 * event["days"]
    weights = np.where(of_events("item_id", object, "") == b"i2", 3.0, 1.0).astype(np.float32)
    tags = [[event["tags"] for event in events] for events in EVENTS]
    padded_tags = [[(event + ["", ""])[:2] for event in (row + [[]] * 3)[:3]] for row in tags]
    fields = {
        "event_item_id": of_events("item_id", object, ""),
        "event_clicked": of_events("clicked", np.int64, 0),
        "event_time": of_events("time", np.int64, 0),
        "event_category": of_events("category", object, ""),
        "event_weight": weights,
    }
    is_event = fields["event_item_id"] != b""
    now = np.full(3, float(NOW))
    nested = record(
        event_tags=np.array(
            [[[t.encode() for t in e] for e in row] for row in padded_tags], object
        ),
        **fields,
        now=now,
        **PROFILE,
    )
    flat = record(
        num_events=np.array([len(events) for events in EVENTS]),
        event_num_tags=np.array([len(event) for row in tags for event in row]),
        event_tags=text([tag for row in tags for event in row for tag in event]),
        **{name: values[is_event] for name, values in fields.items()},
        now=now,
        **PROFILE,
    )
    features = EventFeatures(SPEC, TagNormalization())
    expected = [
        features.instance(
            [
                {
                    **event,
                    "timestamp": event["time"],
                    "weight": 3.0 if event["item_id"] == "i2" else 1,
                }
                for event in events
            ],
            {"segment": segment, "age": age, "likes": likes},
            NOW,
        )
        for events, segment, age, likes in zip(
            EVENTS, ["a", "b", ""], [1.0, 2.0, 3.0], [["x"], [], []], strict=True
        )
    ]
    assert expected[0]["clicked"] == ["pop", "jazz"]  # 2 and 1; rock is not there yet
    found, _ = read(write(tmp_path / "a.tfrecord", nested, flat))
    assert found == [*expected, *expected]


def test_file_that_is_written_is_read_to_its_last_whole_record(tmp_path):
    path = write(tmp_path / "log-1.tfrecord.part", record(**ROWS), record(**ROWS))
    content = path.read_bytes()
    for missing in (1, 5, len(content) // 2 - 3, len(content) // 2 - 13):
        path.write_bytes(content[:-missing])
        found, counts = read(path)
        assert (len(found), counts.num_cut_off) == (2, 1)
    (tmp_path / "log-1.tfrecord").write_bytes(content)
    path.unlink()  # the server has closed it since it was listed
    found, counts = read(path)
    assert (len(found), counts.num_cut_off) == (4, 0)


@pytest.mark.parametrize("damage", ["cut off", "length", "content"])
def test_closed_file_that_is_damaged_is_one_line(tmp_path, damage):
    path = write(tmp_path / "log-1.tfrecord", record(**ROWS), record(**ROWS))
    content = bytearray(path.read_bytes())
    if damage == "cut off":
        del content[-1:]
    else:
        content[0 if damage == "length" else 20] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UnreadableInput, match="`requests` must be readable to the end.") as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_file_that_was_compressed_since_is_read(tmp_path):
    path = write(tmp_path / "log-1.tfrecord", record(**ROWS))
    packed = tmp_path / "log-1.tfrecord.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read(packed)[0]) == 2
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UnreadableInput, match="`requests` must be readable to the end."):
        read(packed)


def test_folder_is_read_with_its_unfinished_files_once(tmp_path):
    for name in ("log-1.tfrecord", "log-1.tfrecord.part", "log-2.tfrecord.part", "README.md"):
        (tmp_path / name).touch()
    assert log_files(str(tmp_path)) == [
        str(tmp_path / "log-1.tfrecord"),
        str(tmp_path / "log-2.tfrecord.part"),
    ]
    (tmp_path / "more.jsonl").touch()
    with pytest.raises(ValueError, match="`requests` must match files of one format"):
        log_files(str(tmp_path))
    assert log_files(str(tmp_path / "*.jsonl")) == []


def test_statistics_of_a_log_are_those_of_the_same_lines(tmp_path):
    spec = FeatureSpec(profile=(ProfileFeature("segment"),), domains=(Domain("clicked"),))
    rows = {name: ROWS[name] for name in spec.raw_names}
    write(tmp_path / "log.tfrecord", record(**rows), b"no message", record(similar_to=text(["a"])))
    lines = tmp_path / "lines.jsonl"
    lines.write_text(
        '{"segment": "a", "clicked": ["jazz", "pop"], "clicked_weights": [2, 1]}\n{}\n'
    )
    logged = request_statistics(str(tmp_path / "*.tfrecord"), spec)
    expected = request_statistics(str(lines), spec)
    assert logged.statistics == expected.statistics
    assert (logged.num_requests, len(logged.rejected)) == (2, 1)
    assert logged.log.num_without_features == 1
