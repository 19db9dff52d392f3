"""Ids of the served graph, against those of the graph that made the training examples."""

import functools
import json
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata

from tests.tfx_pipeline.toy_rows import EMPTY as EMPTY_ROW
from tests.tfx_pipeline.toy_rows import SPEC as TOY_SPEC
from tests.trainer.saved.transform_oracle import model_features, user_values
from tfx_pipeline.examples.tf_examples import build_schema
from tfx_pipeline.preprocessing import preprocessing_fn
from trainer.contract import features as f
from trainer.contract.config_loader import to_mapping
from trainer.saved.feature_ids import FeatureIds, vocabulary_names

# A feature of every kind; two domains share a vocabulary with the labels, one has its own.
SPEC = f.FeatureSpec(
    profile=(
        f.ProfileFeature("city", num_oov_buckets=3),
        f.ProfileFeature("hobbies", type="list", num_oov_buckets=2),
        f.ProfileFeature("age", type="number", num_buckets=4),
    ),
    domains=(
        f.Domain("clicked"),
        f.Domain("items", attribute="item_id"),
        f.Domain("skipped", events="skipped"),
    ),
    vocabularies={"tags": f.Vocabulary(max_size=6, num_oov_buckets=5)},
)
WORDS = [f"w{i}" for i in range(12)] + ["new age", "Ünïcödé", "a,b"]


def some(rng, size):
    return [str(word).encode() for word in rng.choice(WORDS, size)]


def training_row(rng):
    toy = {domain.name for domain in TOY_SPEC.domains} | {"gender"}
    row = {name: [] for name in EMPTY_ROW if name.removesuffix("_weights") not in toy}
    row |= {"user_id": [b"u"], "snapshot_time": [1], "history_num_events": [1]}
    row["city"], row["hobbies"] = some(rng, 1), some(rng, 2)
    row["age"] = [float(np.float32(rng.normal() * 10.0 ** rng.integers(-3, 9)))]
    for domain in SPEC.domains:
        size = rng.integers(4)
        row[domain.name] = some(rng, size)
        row[f.weights_name(domain.name)] = [1.0] * size
    row[f.LABEL_TAGS], row[f.LABEL_TAG_WEIGHTS] = some(rng, 2), [1.0, 1.0]
    return row


@pytest.fixture(scope="module")
def transform_output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    rng = np.random.default_rng(0)
    rows = [training_row(rng) for _ in range(40)]
    config = {f.FEATURES_KEY: json.dumps(to_mapping(SPEC))}
    metadata = dataset_metadata.DatasetMetadata(build_schema(SPEC))
    with tft_beam.Context(temp_dir=str(folder / "beam")):
        _, transform_fn = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            functools.partial(preprocessing_fn, custom_config=config)
        )
        transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))  # noqa: B018 (Beam's way)
    return tft.TFTransformOutput(str(folder / "graph"))


@pytest.fixture(scope="module")
def feature_ids(transform_output):
    names = vocabulary_names(SPEC)
    files = {name: transform_output.vocabulary_file_by_name(name) for name in names}
    return FeatureIds(SPEC, files)


def lists(rng, num_users, width):
    """Texts with gaps anywhere, some of them never seen in training."""
    texts = rng.choice([*WORDS, "", "", "never seen", "unheard of"], [num_users, width])
    return tf.constant(texts.astype(str), tf.string, [num_users, width])


def random_users(rng, bounds):
    num_users = int(rng.integers(1, 7))
    # Numbers at the bounds of the buckets and just beside them.
    near = np.concatenate([bounds, np.nextafter(bounds, np.float32(np.inf)), [np.nan, 0, 1e30]])
    raw = {
        "city": lists(rng, num_users, 1)[:, 0],
        "age": tf.constant(rng.choice(near, num_users), tf.float32),
    }
    for listed in SPEC.lists:
        width = int(rng.integers(0, 9))
        raw[listed.name] = lists(rng, num_users, width)
        if listed.has_weights:
            weights = rng.choice([0.0, 1e-9, 0.5, 3.0, 1e20], [num_users, width])
            raw[f.weights_name(listed.name)] = tf.constant(weights, tf.float32, [num_users, width])
    return raw


def counted(values):
    """The values without their order, which no tower looks at."""
    columns = (values.users, values.lists, values.ids, values.weights)
    return Counter(zip(*(column.numpy().tolist() for column in columns), strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_ids_are_those_of_the_transform(feature_ids, transform_output, seed):
    rng = np.random.default_rng(seed)
    bounds = np.array(transform_output.vocabulary_by_name("profile_age"), np.float32)
    raw = random_users(rng, bounds[np.abs(bounds) < 1e30])

    found = feature_ids(raw)

    expected = user_values(model_features(transform_output, raw, SPEC), SPEC)
    np.testing.assert_array_equal(found.singles, expected.singles)
    assert counted(found) == counted(expected)


def test_columns_lead_back_to_the_callers_values(feature_ids):
    raw = random_users(np.random.default_rng(3), np.zeros(1, np.float32))

    values, columns = feature_ids(raw), feature_ids.columns(raw)

    texts = tf.concat([raw[listed.name] for listed in SPEC.lists], axis=1).numpy()
    widths = np.cumsum([raw[listed.name].shape[1] for listed in SPEC.lists])
    assert np.searchsorted(widths, columns, side="right").tolist() == values.lists.numpy().tolist()
    written = list(zip(values.users.numpy(), columns.numpy(), strict=True))
    assert sorted(written) == list(zip(*np.where(texts != b""), strict=True))
    tags = [i for i, listed in enumerate(SPEC.lists) if listed.vocabulary_name == "tags"]
    for (row, column), own, value in zip(written, values.lists, values.ids, strict=True):
        known = int(feature_ids.tag_ids(tf.constant(texts[row, column])))
        assert own not in tags or value == known or (known < 0 and value >= 6)


def test_tag_out_of_the_vocabulary_has_no_id(feature_ids, transform_output):
    tags = [tag.decode() for tag in transform_output.vocabulary_by_name("tags")]
    found = feature_ids.tag_ids(tf.constant([[*tags, "never seen", ""]]))
    assert found.numpy().tolist() == [[*range(6), -1, -1]]


def one_user(**changes):
    """One user with two values in every list."""
    raw = {"city": tf.constant(["w1"]), "age": tf.constant([3.0])}
    for listed in SPEC.lists:
        raw[listed.name] = tf.constant([["w1", "w2"]])
        if listed.has_weights:
            raw[f.weights_name(listed.name)] = tf.ones([1, 2])
    return raw | changes


@pytest.mark.parametrize("width", [1, 3])
def test_weights_of_another_shape_than_the_values_are_refused(feature_ids, width):
    assert len(feature_ids(one_user()).ids) == 8
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have the same size and shape"):
        feature_ids(one_user(clicked_weights=tf.ones([1, width])))


@pytest.mark.parametrize("name", ["city", "age", "hobbies", "items"])
def test_features_of_different_numbers_of_users_are_refused(feature_ids, name):
    raw = one_user()
    changed = {name: tf.concat([raw[name], raw[name]], axis=0)}
    if f.weights_name(name) in raw:
        changed[f.weights_name(name)] = tf.ones([2, 2])
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        feature_ids(raw | changed)
    # Values of users that are not there are refused as well where they are padding.
    if name in ("hobbies", "items"):
        padding = {name: tf.fill([2, 2], "")}
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
            feature_ids(raw | changed | padding)


def test_batch_of_nobody_is_empty(feature_ids):
    found = feature_ids({name: column[:0] for name, column in one_user().items()})
    assert found.singles.shape == (0, 2)
    assert len(found.ids) == len(found.weights) == 0
