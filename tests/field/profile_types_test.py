"""Ages and interests in profiles: from the cells of a table to a server's answers."""

import dataclasses
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata

from serving.batch.batch_predict import BatchPredictConfig, batch_predict
from serving.batch.input import InstanceReader
from serving.client import EventFeatures, TagClient, TagClientError
from serving.index.top_k import BruteForceIndex
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.batch.batch_predict_test import RUNNER, read_outputs
from tests.tfx_pipeline.examples.random_users import file_batch
from tests.tfx_pipeline.examples.snapshot_messages import serialize_snapshot
from tests.tfx_pipeline.examples.user_snapshots import user_snapshots
from tests.trainer.towers.user_tower_test import CONFIG
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.evaluation.request_statistics import request_statistics, request_values
from tfx_pipeline.examples.columns import Texts
from tfx_pipeline.examples.instance_lines import instance_lines
from tfx_pipeline.examples.shard_users import gather_users
from tfx_pipeline.examples.snapshots import SnapshotMaker
from tfx_pipeline.examples.tf_examples import build_schema, serialize_columns
from tfx_pipeline.examples.user_batches import from_bytes, pack_profiles, to_bytes
from tfx_pipeline.preprocessing import preprocessing_fn
from tfx_pipeline.tables.arrow_files import read_table
from tfx_pipeline.tables.inputs import users_of
from tfx_pipeline.tables.row_batches import count_reasons
from tfx_pipeline.tables.validate import validate_users
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.config_loader import from_mapping, to_mapping
from trainer.contract.history import UserEvents
from trainer.data.input_data import load_vocabularies, vocabulary_sizes
from trainer.model import InterestModel
from trainer.saved.saved_towers import save_towers

SPEC = f.FeatureSpec(
    profile=(
        f.ProfileFeature("city"),
        f.ProfileFeature("hobbies", type="list", separator=";", max_values=3),
        f.ProfileFeature("age", type="number", num_buckets=4),
        f.ProfileFeature("height", type="number"),
    ),
    domains=(f.Domain("clicked"),),
)
USERS = users_of(SPEC)
NAN = float("nan")
NOW = 1000


def checked(path, content=None):
    """Returns the good rows of a table of users, and the reasons of the others."""
    if content is not None:
        path.write_text(content, encoding="utf-8")
    (batch,) = read_table(str(path), USERS)
    return validate_users(batch, USERS)


def columns(found, *names):
    return [{name: row[name] for name in names} for row in found.rows.to_pylist()]


# --- tables ---


def test_cells_of_a_csv_become_numbers_and_lists(tmp_path):
    found = checked(
        tmp_path / "users.csv",
        "user_id,city,hobbies,age,height\n"
        'a,x,go; Chess ;go;,42,"1.75"\n'
        "b,,,,\n"
        "c,y,judo, 0.1 ,-1e3\n"
        "d,y,,young,1\n"
        "e,y,,inf,1\n"
        "f,y,,1e39,1\n",
    )
    assert found.rows.to_pylist() == [
        {"user_id": "a", "city": "x", "hobbies": ["go", "Chess"], "age": 42.0, "height": 1.75},
        {"user_id": "b", "city": "", "hobbies": [], "age": None, "height": None},
        {
            "user_id": "c",
            "city": "y",
            "hobbies": ["judo"],
            "age": float(np.float32(0.1)),
            "height": -1000.0,
        },
    ]
    # Not read as missing: no value is dropped without a message.
    assert count_reasons(found.rejected) == {"wrong_type": 3}


def test_arrow_lists_and_numbers_are_taken_as_they_are(tmp_path):
    table = pa.table(
        {
            "user_id": ["a", "b", "c"],
            "hobbies": pa.array([["go\nnow", "go\nnow", ""], None, []], pa.list_(pa.string())),
            "age": pa.array([NAN, None, math.inf], pa.float64()),
            "height": pa.array([2, None, 3], pa.int16()),
            "city": pa.array(["x", None, "y"]),
        }
    )
    pq.write_table(table, tmp_path / "users.parquet")
    found = checked(tmp_path / "users.parquet")
    assert columns(found, "user_id", "hobbies", "age", "height") == [
        {"user_id": "a", "hobbies": ["go now"], "age": None, "height": 2.0},
        {"user_id": "b", "hobbies": [], "age": None, "height": None},
    ]
    assert count_reasons(found.rejected) == {"wrong_type": 1}


def test_json_cells_of_any_type_are_read_by_the_declared_one(tmp_path):
    lines = [
        {"user_id": "a", "age": 3, "hobbies": ["go", 7], "city": "x", "height": 2},
        {"user_id": "b", "age": "4.5", "hobbies": "go;judo"},
        {"user_id": "c", "age": None},
        {"user_id": "d", "age": [1]},
    ]
    found = checked(tmp_path / "users.jsonl", "".join(json.dumps(x) + "\n" for x in lines))
    assert columns(found, "user_id", "age", "hobbies") == [
        {"user_id": "a", "age": 3.0, "hobbies": ["go", "7"]},
        {"user_id": "b", "age": 4.5, "hobbies": ["go", "judo"]},
        {"user_id": "c", "age": None, "hobbies": []},
    ]
    assert count_reasons(found.rejected) == {"wrong_type": 1}


def test_list_in_a_declared_notation_that_is_none_has_its_reason():
    spec = f.FeatureSpec(profile=(f.ProfileFeature("hobbies", type="list", separator="json"),))
    rows = [{"user_id": "a", "hobbies": '["go"]'}, {"user_id": "b", "hobbies": "go"}]
    found = validate_users(file_batch("users", rows), users_of(spec))
    assert found.rows.to_pylist() == [{"user_id": "a", "hobbies": ["go"]}]
    assert count_reasons(found.rejected) == {"malformed_list": 1}


# --- examples ---

ROWS = [
    {"user_id": "u0", "city": "x", "hobbies": "go;chess;judo;tennis", "age": 20, "height": 1.5},
    {"user_id": "u1", "city": "y", "hobbies": None, "age": 30, "height": 1.5},
    {"user_id": "u2", "city": None, "hobbies": "chess", "age": None, "height": 1.5},
    # Of two rows the smaller one as JSON.
    {"user_id": "u2", "city": None, "hobbies": "zoo", "age": 9, "height": None},
]
EMPTY_CATALOGUE = {
    name: UserEvents.from_records([]).attributes[name] for name in ("tags", "category", "item_id")
}


def block():
    batches = [
        from_bytes(to_bytes(pack_profiles(validate_users(file_batch("users", [row]), USERS))))
        for row in ROWS
    ]
    return gather_users([], batches, EMPTY_CATALOGUE, SPEC.profile, 10)


def now_columns(users):
    texts = {name: Texts(column.vocabulary) for name, column in EMPTY_CATALOGUE.items()}
    return SnapshotMaker(texts, SPEC, ExamplesConfig(), NOW, None).snapshots(users).now


def test_examples_hold_a_float_or_nan_and_the_first_values():
    found = block()
    assert [row["values"] for row in found.rejected.to_pylist()] == [
        '{"user_id": "u2", "age": null, "city": "", "height": 1.5, "hobbies": ["chess"]}'
    ] or found.rejected.num_rows == 1
    columns = now_columns(found.users)

    records = serialize_columns(columns).to_pylist()
    examples = [tf.train.Example.FromString(record).features.feature for record in records]
    assert [e["age"].float_list.value[:] for e in examples] == [[20.0], [30.0], [9.0]]
    assert np.isnan(examples[2]["height"].float_list.value[0])
    assert list(examples[0]["hobbies"].bytes_list.value) == [b"go", b"chess", b"judo"]
    assert list(examples[1]["hobbies"].bytes_list.value) == []
    values = [{name: column.value(row) for name, column in columns.items()} for row in range(3)]
    assert records == [serialize_snapshot(value, SPEC) for value in values]


def test_user_alone_has_the_examples_of_the_block():
    columns = now_columns(block().users)
    for row, profile in enumerate(
        [
            {"city": "x", "hobbies": ["go", "chess", "judo", "tennis"], "age": 20, "height": 1.5},
            {"city": "y", "age": 30.0, "height": 1.5},
            {"hobbies": ["zoo"], "age": 9, "height": None},
        ]
    ):
        (alone,) = user_snapshots(
            f"u{row}", UserEvents.from_records([]), profile, SPEC, ExamplesConfig(), NOW
        )
        expected = {name: column.value(row) for name, column in columns.items()}
        assert json.dumps(alone.values) == json.dumps(expected)
    # A part of the block is the same.
    part = now_columns(block().users.slice(1, 3))
    assert part["hobbies"].value(1) == ["zoo"] and part["age"].values.tolist() == [30.0, 9.0]


def test_instances_of_now_have_null_where_a_number_is_missing():
    columns = now_columns(block().users)
    lines = instance_lines(
        {name: column for name, column in columns.items() if name != f.SNAPSHOT_TIME}
    ).decode()
    rows = [json.loads(line) for line in lines.splitlines()]
    assert "NaN" not in lines
    assert [row["height"] for row in rows] == [1.5, 1.5, None]
    assert [row["hobbies"] for row in rows] == [["go", "chess", "judo"], [], ["zoo"]]


# --- the transform ---

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
AGES = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, NAN, NAN]
TAGS = [f"tag {i}" for i in range(10)]


def training_rows():
    return [
        {
            f.USER_ID: [b"u%d" % i],
            f.SNAPSHOT_TIME: [1],
            f.HISTORY_NUM_EVENTS: [0],
            "city": [b"x"],
            "hobbies": [[b"go", b"chess"], [b"go"], []][i % 3],
            "age": [age],
            "height": [NAN],  # known of nobody
            "clicked": [TAGS[i].encode()],
            "clicked_weights": [1.0],
            f.LABEL_TAGS: [TAGS[i].encode()],
            f.LABEL_TAG_WEIGHTS: [1.0],
            **{name: [] for name in _LISTS},
        }
        for i, age in enumerate(AGES)
    ]


def transformed(rows):
    return preprocessing_fn(rows, {f.FEATURES_KEY: json.dumps(to_mapping(SPEC))})


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """Returns the transformed rows of `training_rows`, and the fitted transform."""
    folder = tmp_path_factory.mktemp("transform")
    metadata = dataset_metadata.DatasetMetadata(build_schema(SPEC))
    with tft_beam.Context(temp_dir=str(folder / "beam")):
        (rows, _), transform_fn = (
            training_rows(),
            metadata,
        ) | tft_beam.AnalyzeAndTransformDataset(transformed)
        transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))  # noqa: B018
    return rows, tft.TFTransformOutput(str(folder / "graph"))


def test_number_becomes_the_bucket_between_quantiles_and_the_missing_0(analysed):
    rows, output = analysed
    vocabularies = load_vocabularies(output, SPEC)
    bounds = [float(bound) for bound in vocabularies["profile_age"]]

    # Of eight known ages a quarter each; the first bound lies below all.
    assert np.float32(bounds[0]) == np.finfo(np.float32).min
    assert [row["age"] for row in rows] == [1, 1, 2, 2, 3, 3, 4, 4, 0, 0]
    for age, row in zip(AGES, rows, strict=True):
        assert row["age"] == (0 if math.isnan(age) else np.searchsorted(bounds, age, "right"))
    assert vocabulary_sizes(output, SPEC)["profile_age"] == 5


def test_number_that_nobody_has_is_the_unknown_to_everybody(analysed):
    rows, output = analysed
    assert {int(row["height"]) for row in rows} == {0}
    # A height that is nevertheless sent has a row.
    size = vocabulary_sizes(output, SPEC)["profile_height"]
    layer = output.transform_features_layer()
    inputs = {"height": tf.constant([[-7.0], [0.0], [7.0], [np.inf], [-np.inf], [NAN]])}
    ids = served(layer, inputs)["height"].numpy()
    assert ids[-1] == 0 and (ids[:-1] >= 1).all() and (ids < size).all()


def served(layer, inputs):
    """Returns what the served graph computes from some columns."""
    num_rows = next(iter(inputs.values())).shape[0]
    nothing = tf.sparse.from_dense(tf.zeros([num_rows, 0], tf.string))
    columns = {
        "city": tf.fill([num_rows, 1], ""),
        "age": tf.fill([num_rows, 1], NAN),
        "height": tf.fill([num_rows, 1], NAN),
        "hobbies": nothing,
        "clicked": nothing,
        "clicked_weights": tf.sparse.from_dense(tf.zeros([num_rows, 0])),
    }
    return layer({**columns, **inputs})


def test_list_has_a_vocabulary_of_its_own_with_a_bucket(analysed):
    rows, output = analysed
    assert load_vocabularies(output, SPEC)["profile_hobbies"] == ["go", "chess"]
    assert vocabulary_sizes(output, SPEC)["profile_hobbies"] == 3
    found = served(
        output.transform_features_layer(),
        {"hobbies": tf.sparse.from_dense([["chess", "new", "go"], ["go", "", ""]])},
    )["hobbies"]
    assert found.values.numpy().tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([3.0] * 5, [1] * 5), ([1.0, 2.0, NAN, 1.0, 2.0], [1, 2, 0, 1, 2])],
)
def test_column_of_fewer_distinct_values_than_buckets_parts_these_alone(
    tmp_path, numbers, expected
):
    spec = f.FeatureSpec(profile=(f.ProfileFeature("age", type="number"),))
    rows = [
        {"age": [n], f.USER_ID: [b"u"], f.SNAPSHOT_TIME: [1], f.HISTORY_NUM_EVENTS: [0]}
        | {name: [] for name in (*_LISTS, f.LABEL_TAG_WEIGHTS)}
        | {f.LABEL_TAGS: [b"pop"]}
        for n in numbers
    ]
    config = {f.FEATURES_KEY: json.dumps(to_mapping(spec))}
    metadata = dataset_metadata.DatasetMetadata(build_schema(spec))
    with tft_beam.Context(temp_dir=str(tmp_path)):
        (found, _), _ = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
    ids = [int(row["age"]) for row in found]
    order = sorted({*ids} - {0})
    assert [order.index(i) + 1 if i else 0 for i in ids] == expected


# --- a server ---


@pytest.fixture(scope="module")
def servable(analysed, tmp_path_factory):
    """Returns the folder of the exported version."""
    _, output = analysed
    folder = tmp_path_factory.mktemp("model")
    model = InterestModel(
        SPEC,
        vocabulary_sizes(output, SPEC),
        len(TAGS),
        dataclasses.replace(CONFIG, interaction="bag", click_projection=False),
        TrainingConfig(),
        seed=1,
    )
    zeros = tf.ragged.constant([[0]], tf.int64)
    ids = {single.name: tf.constant([0], tf.int64) for single in SPEC.singles}
    ids |= {"hobbies": zeros, "clicked": zeros, "clicked_weights": tf.ragged.constant([[1.0]])}
    model(ids)
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(scale=0.7, size=weight.shape))
    save_towers(model, output, str(folder / "towers"))
    towers = tf.saved_model.load(str(folder / "towers"))
    vectors = towers.signatures[s.CANDIDATES]()[s.CANDIDATE_EMBEDDINGS].numpy()
    examples = [serialize_snapshot(example_values(row), SPEC) for row in training_rows()[-2:]]
    export_servable(
        TagRetrieval(towers, BruteForceIndex(vectors), k=4),
        str(folder / "tags" / "1"),
        {
            "index": {"num_tags": len(TAGS)},
            "features": to_mapping(SPEC),
            "tag_normalization": {"trim": True, "lowercase": True, "nfc": True},
        },
        examples,
    )
    return folder / "tags" / "1"


def example_values(row):
    single = {f.USER_ID, f.SNAPSHOT_TIME, f.HISTORY_NUM_EVENTS, "city", "age", "height"}
    found = {n: [v.decode() if isinstance(v, bytes) else v for v in x] for n, x in row.items()}
    return {name: x[0] if name in single else x for name, x in found.items()}


@pytest.fixture(scope="module")
def server(servable):
    config = ModelConfig("tags", str(servable.parent))
    with ModelServer([config], host="127.0.0.1", rest_api_port=0, poll_wait_s=0.02) as live:
        live.wait_until_available(300)
        yield live


@pytest.fixture
def client(server):
    with TagClient(f"127.0.0.1:{server.port}", model_name="tags", timeout_s=60) as client:
        yield client


WHOLE = {"city": "x", "age": 35, "hobbies": ["chess", "go"], "clicked": ["tag 3"]}


def profile_of(client, **changes):
    (profile,) = client.retrieve([{**WHOLE, **changes}]).profiles
    return dict(zip(profile.tags, profile.scores, strict=True))


def test_numbers_of_one_bucket_have_one_answer_and_others_another(client):
    assert profile_of(client, age=35) == profile_of(client, age=36.5)
    assert profile_of(client, age=35) != profile_of(client, age=79)
    known, left_out = profile_of(client), profile_of(client, age=NAN)
    assert profile_of(client, age=None) == left_out
    assert known != left_out
    rest = {name: value for name, value in WHOLE.items() if name != "age"}
    (unknown,) = client.retrieve([rest]).profiles
    assert dict(zip(unknown.tags, unknown.scores, strict=True)) == left_out


def test_list_is_pooled_whatever_its_order_and_padding(client):
    alone = profile_of(client)
    assert profile_of(client, hobbies=["go", "chess"]) == pytest.approx(alone)
    first, second = client.retrieve([WHOLE, {**WHOLE, "hobbies": ["go"] * 5}]).profiles
    assert dict(zip(first.tags, first.scores, strict=True)) == pytest.approx(alone)
    assert first.scores != second.scores
    assert profile_of(client, hobbies=[]) != pytest.approx(alone)


@pytest.mark.parametrize("value", [math.inf, 1e39, "35", True, [35]])
def test_number_of_another_kind_is_refused_by_the_client(client, value):
    with pytest.raises(ValueError, match="`age` of .* must be a finite number of float32, or NaN"):
        client.retrieve([{"age": value}])


def test_infinity_is_refused_by_the_graph(client):
    inputs = {
        "city": np.array([b""], object),
        "age": np.array([np.inf], np.float32),
        "height": np.array([NAN], np.float32),
        "hobbies": np.array([[b""]], object),
        "clicked": np.array([[b""]], object),
        "clicked_weights": np.zeros([1, 1], np.float32),
    }
    with pytest.raises(TagClientError, match="`age` must hold finite numbers, or NaN"):
        client.predict(inputs, s.RETRIEVE)
    inputs["age"][:] = NAN
    assert client.predict(inputs, s.RETRIEVE).outputs["scores"].shape == (1, 4)


def test_rest_takes_a_json_number(server, client):
    instance = {
        "city": "x",
        "age": 35,
        "height": 1.5,
        "hobbies": ["chess", "go"],
        "clicked": ["tag 3"],
        "clicked_weights": [1.0],
    }
    response = requests.post(
        f"http://127.0.0.1:{server.rest_api_port}/v1/models/tags:predict",
        json={"signature_name": s.RETRIEVE, "instances": [instance]},
        timeout=60,
    )
    assert response.status_code == 200, response.text
    (found,) = response.json()["predictions"]
    scores = dict(zip(found["tags"], found["scores"], strict=True))
    assert scores == pytest.approx(profile_of(client, height=1.5))


def test_batch_answers_as_the_server_does(tmp_path, servable, client):
    users = [WHOLE, {"age": None, "hobbies": ["new"]}, {"age": 80.0, "height": 2}, {"age": "old"}]
    lines = [json.dumps({"user_id": f"u{i}", **user}) for i, user in enumerate(users)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = BatchPredictConfig(
        model_dir=str(servable),
        input_pattern=str(tmp_path / "in.jsonl"),
        output_dir=str(tmp_path / "out"),
    )
    assert batch_predict(config, RUNNER) == {"predicted": 3, "errors": 1}

    results, errors, _ = read_outputs(tmp_path / "out")
    known = [{n: v for n, v in user.items() if v is not None} for user in users[:3]]
    for result, profile in zip(results, client.retrieve(known).profiles, strict=True):
        assert tuple(result["prediction"]["tags"]) == profile.tags
        np.testing.assert_allclose(result["prediction"]["scores"], profile.scores, rtol=1e-5)
    assert "`age`" in json.dumps(errors)


def test_examples_of_a_user_give_the_answer_of_the_features(servable, client):
    towers = tf.saved_model.load(str(servable))
    example = serialize_snapshot({**example_values(training_rows()[0]), "age": 35.0}, SPEC)
    found = towers.signatures[s.SERVING_DEFAULT](examples=tf.constant([example]))
    (expected,) = client.retrieve(
        [{"city": "x", "age": 35, "hobbies": ["go", "chess"], "clicked": ["tag 0"]}]
    ).profiles
    assert [tag.decode() for tag in found[s.TAGS].numpy()[0]] == list(expected.tags)
    np.testing.assert_allclose(found[s.SCORES].numpy()[0], expected.scores, rtol=1e-5)
    # An absent number counts as missing, as NaN does.
    reader = InstanceReader("tf-record", None, (f.USER_ID,), {"age": False, "hobbies": True})
    missing = serialize_snapshot(example_values(training_rows()[-1]), SPEC)
    assert reader.parse_record(missing).features == {"hobbies": ["go", "chess"]}
    assert reader.parse_record(example).features["age"] == 35.0


def test_explanation_says_what_a_number_and_each_hobby_do(client):
    tag = next(iter(profile_of(client)))
    (found,) = client.explain([WHOLE], [tag]).explanations

    def score(**changes):
        (answer,) = client.score_tags([{**WHOLE, **changes}], [[tag]]).users
        return answer.scores[0]

    by_feature = {each.feature: each.contribution for each in found.features}
    assert list(by_feature) == ["city", "age", "height", "hobbies", "clicked"]
    assert by_feature["age"] == pytest.approx(score() - score(age=NAN), abs=1e-4)
    assert by_feature["hobbies"] == pytest.approx(score() - score(hobbies=[]), abs=1e-4)
    assert by_feature["height"] == 0
    by_value = {(each.domain, each.value): each for each in found.values}
    expected = score() - score(hobbies=["go"])
    assert by_value["hobbies", "chess"].contribution == pytest.approx(expected, abs=1e-4)
    assert by_value["hobbies", "chess"].attention == pytest.approx(0.5)


def test_fresh_events_of_a_version_take_any_profile(servable, client):
    features = EventFeatures.load(servable)
    instance = features.instance([], {"age": 35, "hobbies": [" chess ", "go"]}, at=NOW)
    assert instance["hobbies"] == ["chess", "go"] and math.isnan(instance["height"])
    assert client.retrieve([instance]) == client.retrieve(
        [{"age": 35.0, "hobbies": ["chess", "go"]}]
    )
    with pytest.raises(ValueError, match="`age` must be a finite number"):
        features.instance([], {"age": "35"}, at=NOW)


# --- requests and drift ---


def test_requests_are_counted_as_examples_are(tmp_path):
    lines = [{"age": 3, "hobbies": ["go"]}, {"age": None}, {}, {"age": "3"}, {"hobbies": "go"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = request_statistics(str(tmp_path / "in.jsonl"), SPEC)

    assert found.num_requests == 3
    assert [reason.partition(" Received")[0] for reason in found.rejected] == [
        "`age` must be a finite number.",
        "`hobbies` must be a list of strings.",
    ]
    statistics = {x.path.step[0]: x for x in found.statistics.datasets[0].features}
    histogram = statistics["age"].num_stats.histograms[0]
    assert (histogram.num_nan, statistics["age"].num_stats.max) == (2, 3.0)
    assert "hobbies_weights" not in request_values({}, SPEC)


def test_number_is_compared_by_jensen_shannon_alone():
    mapping = {
        "name": "x",
        "data": {"interactions": "i", "items": "t", "users": "u"},
        "features": to_mapping(SPEC),
        "validation": {"skew": {"age": {"l_infinity": 0.1}}},
    }
    with pytest.raises(ValueError, match="skew.age.l_infinity` must be null for a feature of numb"):
        from_mapping(PipelineConfig, mapping)
    mapping["validation"] = {"skew": {"age": {"jensen_shannon": 0.1}}}
    assert from_mapping(PipelineConfig, mapping).features == SPEC
