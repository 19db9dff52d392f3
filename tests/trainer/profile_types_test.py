"""Profile features that are numbers or lists: declaration, towers, warm start, live callers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.saved.transform_oracle import user_values
from tests.trainer.towers.user_tower_test import CONFIG
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.contract.config_loader import from_mapping, to_mapping
from trainer.contract.history import UserEvents, check_profile, feature_values
from trainer.data.snapshots import Snapshots
from trainer.data.vocabulary_losses import count_lost_values
from trainer.fitting.loop import build_model
from trainer.fitting.model_state import ModelState, build_optimizer, named_weights
from trainer.fitting.optimizer import make_optimizer
from trainer.fitting.warm_start import save_training_state, start_from, tables
from trainer.model import InterestModel
from trainer.parameter_count import count_parameters
from trainer.saved.explanations import each_left_out, feature_names, without
from trainer.towers.bag_of_values import BagOfValues
from trainer.towers.user_fields import UserFields, num_users

# The list stands between the single values: the order of the fields is not that of the columns.
SPEC = f.FeatureSpec(
    profile=(
        f.ProfileFeature("city"),
        f.ProfileFeature("hobbies", type="list", max_values=3),
        f.ProfileFeature("age", type="number", num_buckets=4),
    ),
    domains=(f.Domain("clicked"),),
)
SIZES = {"tags": 7, "profile_city": 4, "profile_hobbies": 5, "profile_age": 5}
CITY, AGE = [1, 0], [3, 0]
HOBBIES = tf.RaggedTensor.from_row_lengths(tf.constant([0, 2, 3], tf.int64), [3, 0])
CLICKED = tf.RaggedTensor.from_row_lengths(tf.constant([1, 2, 3], tf.int64), [1, 2])
WEIGHTS = CLICKED.with_flat_values(tf.constant([2.0, 1.0, 3.0]))
USERS = {
    "city": tf.constant(CITY, tf.int64),
    "hobbies": HOBBIES,
    "age": tf.constant(AGE, tf.int64),
    "clicked": CLICKED,
    "clicked_weights": WEIGHTS,
}


# --- what is declared ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_buckets": 5}, "`num_buckets` must be left out of `x`, which is of `type: text`."),
        ({"separator": ";"}, "`separator` must be left out of `x`, which is of `type: text`."),
        ({"max_values": 5}, "`max_values` must be left out of `x`, which is of `type: text`."),
        (
            {"type": "number", "num_oov_buckets": 2},
            "`num_oov_buckets` must be left out of `x`, which is of `type: number`.",
        ),
        (
            {"type": "number", "values": ["1"]},
            "`values` must be left out of `x`, which is of `type: number`.",
        ),
        (
            {"type": "list", "num_buckets": 5},
            "`num_buckets` must be left out of `x`, which is of `type: list`.",
        ),
        ({"type": "number", "num_buckets": 1}, "`num_buckets` must be at least 2."),
        ({"type": "list", "max_values": 0}, "`max_values` must be at least 1."),
        ({"type": "list", "separator": ""}, "`separator` must not be empty."),
        ({"type": "date"}, "`feature.type` must be"),
    ],
)
def test_key_that_does_not_fit_the_type_is_refused(options, message):
    with pytest.raises(ValueError) as error:
        from_mapping(f.ProfileFeature, {"name": "x", **options}, "feature")
    assert message in str(error.value)


def test_specification_goes_through_json_and_one_before_types_is_text():
    assert from_mapping(f.FeatureSpec, to_mapping(SPEC), "features") == SPEC
    older = {"profile": [{"name": "city", "num_oov_buckets": 2, "values": ["a"]}]}
    (feature,) = from_mapping(f.FeatureSpec, older, "features").profile
    assert feature == f.ProfileFeature("city", "text", 2, ("a",))


def test_lists_of_a_profile_have_no_weights():
    assert SPEC.raw_names == ("city", "hobbies", "age", "clicked", "clicked_weights")
    assert [feature.name for feature in SPEC.singles] == ["city", "age"]
    assert [feature.name for feature in SPEC.lists] == ["hobbies", "clicked"]


# --- towers ---


def fields_of(pooling="average"):
    config = dataclasses.replace(
        CONFIG, pooling=pooling, log_count_fields=True, use_domain_totals=True
    )
    seeds = iter(range(1, 50))
    return UserFields(SPEC, SIZES, config, seeds)


def test_number_is_a_row_and_a_list_the_mean_of_its_rows():
    fields = fields_of()
    vectors, mask = fields(USERS)

    assert fields.field_names == (
        "city",
        "age",
        "hobbies",
        "clicked",
        "clicked_log",
        "clicked_total",
    )
    rows = {name: table.variable.numpy() for name, table in fields.embedding_tables.items()}
    np.testing.assert_allclose(vectors[:, 0, 0], rows["city"][CITY], rtol=1e-6)
    np.testing.assert_allclose(vectors[:, 1, 0], rows["age"][AGE], rtol=1e-6)
    expected = [rows["hobbies"][[0, 2, 3]].mean(axis=0), np.zeros(CONFIG.embedding_dim)]
    np.testing.assert_allclose(vectors[:, 2, 0], expected, rtol=1e-5)
    assert mask.numpy().tolist() == [[True] * 6, [True, True, False, True, True, True]]


def test_list_of_a_profile_is_no_behaviour_to_hide():
    _, mask = fields_of()(USERS, tf.constant([[False], [True]]))

    assert mask.numpy()[0].tolist() == [True, True, True, False, False, False]


def test_attention_within_a_list_sums_to_one():
    fields = fields_of("attention")
    fields(USERS)

    found = fields.attention(USERS)["hobbies"]
    assert found.row_lengths().numpy().tolist() == [3, 0]
    np.testing.assert_allclose(tf.reduce_sum(found[0], axis=0), [1, 1], rtol=1e-6)


@pytest.mark.parametrize("keep", [None, [[0.0], [1.0]]])
def test_bag_adds_a_row_of_a_number_and_the_mean_of_a_lists_rows(keep):
    bag = BagOfValues(
        SPEC, SIZES, dataclasses.replace(CONFIG, log_count_fields=False, use_domain_totals=False)
    )
    found = bag(USERS, None if keep is None else tf.constant(keep) > 0)

    rows = {name: table.variable.numpy() for name, table in bag.embedding_tables.items()}
    assert sorted(rows) == ["age", "city", "clicked_shares", "hobbies_shares"]
    clicked = rows["clicked_shares"]
    behaviour = np.stack([clicked[1], 0.25 * clicked[2] + 0.75 * clicked[3]])
    if keep is not None:
        behaviour = behaviour * keep
    hobbies = np.stack([rows["hobbies_shares"][[0, 2, 3]].mean(axis=0), np.zeros(6)])
    expected = rows["city"][CITY] + rows["age"][AGE] + hobbies + behaviour
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-5, atol=1e-7)


def test_features_of_lists_alone_have_a_batch():
    spec = f.FeatureSpec(profile=(f.ProfileFeature("hobbies", type="list"),))
    assert int(num_users({"hobbies": HOBBIES}, spec)) == 2
    model = InterestModel(spec, SIZES, 6, CONFIG, TrainingConfig())
    assert count_parameters(model).embeddings > 0
    assert model.query_embeddings({"hobbies": HOBBIES}).shape == (2, CONFIG.output_dim + 1)


def test_each_value_of_a_list_is_left_out_once():
    values = user_values(USERS, SPEC)
    left_out = each_left_out(SPEC, values)
    # Hobbies 0, 2, 3 and click 1 are of the first user, clicks 2 and 3 of the second one.
    order, starts = tf.constant([0, 1, 2, 3, 4, 5], tf.int64), tf.constant([0, 4, 6], tf.int64)
    found = without(SPEC, values, order, starts, left_out)

    assert feature_names(SPEC) == ("city", "age", "hobbies", "clicked")

    def ids_of(place):
        rows = [[] for _ in left_out.users]
        for row, own, value in zip(found.users, found.lists, found.ids, strict=True):
            if own == place:
                rows[int(row)].append(int(value))
        return rows

    hobbies, clicked = ids_of(0), ids_of(1)
    # Whole users, then each of four features of each, then three hobbies, then three clicks.
    assert hobbies[:2] == [[0, 2, 3], []] and clicked[:2] == [[1], [2, 3]]
    assert hobbies[2 + 2 * 2 : 2 + 2 * 3] == [[], []]
    assert clicked[2 + 2 * 2 : 2 + 2 * 3] == [[1], [2, 3]]
    assert clicked[2 + 2 * 3 : 2 + 2 * 4] == [[], []]
    assert hobbies[10:13] == [[2, 3], [0, 3], [0, 2]]
    assert hobbies[13:] == [[0, 2, 3], [], []]
    assert clicked[13:] == [[], [3], [2]]
    assert found.singles.numpy()[:6].tolist() == [[1, 3], [0, 0], [0, 3], [0, 0], [1, 0], [0, 0]]
    first_weights = [w for row, w in zip(found.users, found.weights, strict=True) if row == 1]
    assert first_weights == [1.0, 3.0]


def test_values_lost_from_the_vocabulary_of_a_list_are_counted():
    train = Snapshots(
        {"city": np.array([0, 1]), "age": np.array([0, 4])},
        {
            name: Snapshots.from_batches([{name: column}]).lists[name]
            for name, column in {
                "hobbies": HOBBIES,
                "clicked": CLICKED,
                f.LABEL_TAGS: CLICKED,
                f.IMPRESSION_TAGS: CLICKED,
            }.items()
        },
    )
    sizes = {"tags": 6, "profile_city": 2, "profile_hobbies": 3, "profile_age": 4}
    assert count_lost_values(train, SPEC, sizes) == {
        "tags": 0,
        "profile_city": 0,
        "profile_hobbies": 1,
        "profile_age": 0,
    }


# --- warm start ---

LOWEST = "-3.40282347e+38"
MONDAY = {
    "tags": [*"abcdef"],
    "profile_city": ["x", "y"],
    "profile_hobbies": ["go", "chess", "tennis", "judo"],
    # Buckets below 10, from 10, from 20, from 30.
    "profile_age": [LOWEST, "1.0e+01", "2.0e+01", "3.0e+01"],
}


def model_of(vocabularies, interaction="bag"):
    sizes = {name: len(values) + 1 for name, values in vocabularies.items()}
    sizes["profile_city"] += 1
    model = InterestModel(
        SPEC,
        sizes,
        len(vocabularies["tags"]),
        dataclasses.replace(CONFIG, interaction=interaction),
        TrainingConfig(),
        seed=3,
    )
    zeros = CLICKED.with_flat_values(tf.zeros([3], tf.int64))
    ones = CLICKED.with_flat_values(tf.ones([3]))
    columns = {name: tf.zeros([2], tf.int64) for name in ("city", "age")}
    columns |= {name: zeros for name in ("hobbies", "clicked", f.LABEL_TAGS, f.IMPRESSION_TAGS)}
    columns |= {name: ones for name in ("clicked_weights", f.LABEL_TAG_WEIGHTS)}
    columns |= {name: ones for name in (f.IMPRESSION_CLICKED, f.IMPRESSION_WEIGHTS)}
    columns[f.IMPRESSION_NUM_TAGS] = zeros.with_flat_values(tf.ones([3], tf.int64))
    build_model(model, Snapshots.from_batches([columns]))
    build_optimizer(model, make_optimizer(model.training_config))
    return model


def table_named(model, name):
    variable = model.user_tower.embedding_tables[name].variable
    (found,) = (key for key, weight in named_weights(model).items() if weight is variable)
    return found


def test_bucket_begins_with_the_row_of_the_bucket_its_middle_lay_in(tmp_path):
    old = model_of(MONDAY)
    save_training_state(str(tmp_path), old, MONDAY)
    # Below 12, from 12 (middle 13), from 14 (17.5), from 21 (27.5), from 34; and a hobby fewer.
    bounds = [LOWEST, "1.2e+01", "1.4e+01", "2.1e+01", "3.4e+01"]
    tuesday = MONDAY | {"profile_age": bounds, "profile_hobbies": ["judo", "go", "new"]}
    new = model_of(tuesday)

    start = start_from(str(tmp_path), new, tuesday)

    table = old.user_tower.embedding_tables
    name = table_named(new, "age")
    ages = table["age"].variable.numpy()
    assert tables(new)[name].is_number
    # The first row is that of the unknown.
    np.testing.assert_array_equal(start.state.weights[name], ages[[0, 1, 2, 2, 3, 4]])
    assert (start.rows["profile_age"].kept, start.rows["profile_age"].new) == (5, 0)
    assert start.rows["profile_age"].retired == 0
    name = table_named(new, "hobbies_shares")
    hobbies, fresh = table["hobbies_shares"].variable.numpy(), ModelState.of(new).weights[name]
    # A list has no row of the unknown; its last one is the bucket of values out of vocabulary.
    expected = np.stack([hobbies[3], hobbies[0], fresh[2], hobbies[4]])
    np.testing.assert_array_equal(start.state.weights[name], expected)


def test_constant_column_of_one_day_warms_any_buckets_of_the_next(tmp_path):
    monday = MONDAY | {"profile_age": [LOWEST]}
    old = model_of(monday)
    save_training_state(str(tmp_path), old, monday)
    start = start_from(str(tmp_path), model_of(MONDAY), MONDAY)

    rows = old.user_tower.embedding_tables["age"].variable.numpy()
    found = start.state.weights[table_named(old, "age")]
    np.testing.assert_array_equal(found, rows[[0, 1, 1, 1, 1]])


def test_number_that_was_text_is_another_architecture(tmp_path, monkeypatch):
    text = dataclasses.replace(SPEC, profile=(*SPEC.profile[:2], f.ProfileFeature("age")))
    vocabularies = MONDAY | {"profile_age": ["10", "20", "young"]}
    monkeypatch.setitem(globals(), "SPEC", text)
    save_training_state(str(tmp_path), model_of(vocabularies), vocabularies)
    monkeypatch.undo()
    new = model_of(MONDAY)

    with pytest.raises(ValueError, match=r"\['profile_age', 'number'.*\['profile_age', 'text'"):
        start_from(str(tmp_path), new, MONDAY)


# --- live callers ---


def test_values_of_a_caller_are_those_of_the_tables():
    nothing = UserEvents.from_records([])
    profile = {"city": "x\n", "hobbies": [" go ", "", "go", "a\nb", "c", "d"], "age": 0.1}
    assert feature_values(nothing, profile, 7, SPEC) == {
        "city": "x",
        "hobbies": ["go", "a b", "c"],
        "age": float(np.float32(0.1)),
        "clicked": [],
        "clicked_weights": [],
    }
    found = feature_values(nothing, {"age": None}, 7, SPEC)
    assert np.isnan(found["age"]) and found["hobbies"] == [] and found["city"] == ""


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"age": "30"}, "`age` must be a finite number, NaN where unknown. Received: age='30'."),
        ({"age": True}, "`age` must be a finite number"),
        ({"age": float("inf")}, "`age` must be a finite number"),
        ({"age": 1e39}, "`age` must be a finite number"),
        (
            {"hobbies": "go|chess"},
            "`hobbies` must be a list of strings. Received: hobbies='go|chess'.",
        ),
        ({"hobbies": ["go", 3]}, "`hobbies` must be a list of strings"),
        ({"city": 3}, "`city` must be a string"),
    ],
)
def test_value_of_another_kind_is_refused(profile, message):
    with pytest.raises(ValueError) as error:
        check_profile(profile, SPEC)
    assert message in str(error.value)
    check_profile({"age": 3, "hobbies": ("go",), "city": ""}, SPEC)
    check_profile({"age": np.float32("nan")}, SPEC)
    check_profile({"age": None}, SPEC)
