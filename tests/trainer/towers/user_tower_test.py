import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.tower_oracles import embed_user
from trainer.config import ModelConfig
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature
from trainer.towers import domain_attention
from trainer.towers.tag_tower import TagTower
from trainer.towers.user_tower import UserTower

SPEC = FeatureSpec(
    profile=(ProfileFeature("gender"),),
    domains=(Domain("clicked_tags"), Domain("skipped_items", "item_id", "skipped")),
)
SIZES = {"profile_gender": 3, "tags": 8, "item_id": 5}
CONFIG = ModelConfig(
    embedding_dim=4,
    num_heads=2,
    attention_dim=3,
    cross_dim=2,
    hidden_dim=6,
    output_dim=4,
    dropout=0.0,
    domain_dropout=0.0,
)
USERS = [
    # gender, clicked tags with weights, skipped items with weights
    (0, {1: 2.0, 7: 1.0, 3: 4.0}, {4: 1.0}),
    (2, {}, {0: 1.0, 2: 3.0}),
    (1, {5: 1.0}, {}),
    (0, {}, {}),
]


def features(users=USERS):
    batch = {"gender": tf.constant([user[0] for user in users], tf.int64)}
    for i, name in ((1, "clicked_tags"), (2, "skipped_items")):
        batch[name] = tf.ragged.constant([list(user[i]) for user in users], tf.int64, ragged_rank=1)
        weights = [list(user[i].values()) for user in users]
        batch[f"{name}_weights"] = tf.ragged.constant(weights, tf.float32, ragged_rank=1)
    return batch


def make(**changes):
    tower = UserTower(SPEC, SIZES, dataclasses.replace(CONFIG, **changes), seed=3)
    tower(features(), training=True)  # batch moments are no longer the initial ones
    rng = np.random.default_rng(0)
    for variable in tower.weights:
        sign = 1 if "moving" in variable.name else rng.choice([-1, 1], variable.shape)
        variable.assign(sign * rng.uniform(0.1, 1.0, variable.shape))
    return tower


def histories_of(user):
    return {"clicked_tags": user[1], "skipped_items": user[2]}


def expected_vectors(tower, users=USERS, shared=None):
    found = [embed_user(tower, {"gender": u[0]}, histories_of(u), shared)[0] for u in users]
    return np.array(found)


INTERACTIONS = ("utpm", "youtube_dnn", "afm", "nfm", "dcn", "autoint", "bag")
each_interaction = pytest.mark.parametrize("interaction", INTERACTIONS)
# With either pooling; the bag has none.
each_tower = pytest.mark.parametrize(
    ("interaction", "pooling"),
    [*itertools.product(INTERACTIONS[:-1], ("attention", "average")), ("bag", "default")],
)

PLAIN = {"field_residual": False, "use_domain_totals": False, "log_count_fields": False}


@each_tower
@pytest.mark.parametrize("changes", [{}, PLAIN], ids=["all", "plain"])
def test_user_tower_equals_the_loops(interaction, pooling, changes):
    tower = make(interaction=interaction, pooling=pooling, **changes)
    np.testing.assert_allclose(tower(features()), expected_vectors(tower), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_heads": 1},
        {"norm": "layer"},
        {"use_domain_weights": False},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("interaction", ["utpm", "afm", "bag"])
def test_options_equal_the_loops(interaction, changes):
    tower = make(interaction=interaction, pooling="attention", **changes)
    np.testing.assert_allclose(tower(features()), expected_vectors(tower), rtol=2e-4, atol=2e-4)


RANDOM_SPEC = FeatureSpec(
    profile=(ProfileFeature("gender"), ProfileFeature("age")),
    domains=(
        Domain("clicked_tags"),
        Domain("skipped_items", "item_id", "skipped"),
        Domain("clicked_categories", "category"),
    ),
)
RANDOM_SIZES = {"profile_gender": 3, "profile_age": 5, "tags": 12, "item_id": 9, "category": 2}


@pytest.mark.parametrize("seed", range(8))
def test_random_towers_of_random_users_equal_the_loops(seed):
    rng = np.random.default_rng(seed)
    spec = dataclasses.replace(
        RANDOM_SPEC,
        profile=RANDOM_SPEC.profile[: rng.integers(3)],
        domains=RANDOM_SPEC.domains[: rng.integers(1, 4)],
    )
    # Every interaction occurs; the other options vary.
    switches = (
        "use_domain_weights",
        "use_domain_totals",
        "log_count_fields",
        "field_residual",
    )
    tower = UserTower(
        spec,
        RANDOM_SIZES,
        dataclasses.replace(
            CONFIG,
            interaction=INTERACTIONS[seed % len(INTERACTIONS)],
            pooling=str(rng.choice(["attention", "average"])),
            norm="layer",
            num_heads=int(rng.integers(1, 3)),
            **{name: bool(rng.integers(2)) for name in switches},
        ),
        seed=seed,
    )
    users, batch = [], {}
    for _ in range(6):
        profile = {
            feature.name: int(rng.integers(RANDOM_SIZES[f"profile_{feature.name}"]))
            for feature in spec.profile
        }
        histories = {}
        for domain in spec.domains:
            rows = RANDOM_SIZES[domain.vocabulary_name]
            values = rng.permutation(rows)[: rng.integers(rows + 1)]
            weights = rng.integers(1, 30, len(values)) * rng.choice([1.0, 0.5])
            histories[domain.name] = dict(zip(values.tolist(), weights.tolist(), strict=True))
        users.append((profile, histories))
    for feature in spec.profile:
        batch[feature.name] = tf.constant([user[0][feature.name] for user in users], tf.int64)
    for domain in spec.domains:
        for name, part, dtype in (
            (domain.name, dict.keys, tf.int64),
            (f"{domain.name}_weights", dict.values, tf.float32),
        ):
            rows = [list(part(user[1][domain.name])) for user in users]
            batch[name] = tf.ragged.constant(rows, dtype, ragged_rank=1)

    vectors, attention = tower(batch).numpy(), tower.attention(batch)

    for i, (profile, histories) in enumerate(users):
        vector, weights = embed_user(tower, profile, histories)
        np.testing.assert_allclose(vectors[i], vector, rtol=1e-3, atol=1e-3)
        assert set(weights) == set(attention)
        for name in weights:
            found = np.reshape(attention[name][i], weights[name].shape)
            np.testing.assert_allclose(found, weights[name], atol=1e-4)


@each_interaction
def test_order_of_values_and_batch_do_not_matter(interaction):
    tower = make(interaction=interaction)
    shuffled = (0, {3: 4.0, 1: 2.0, 7: 1.0}, {4: 1.0})
    alone = tower(features([shuffled]))
    np.testing.assert_allclose(tower(features())[0], alone[0], rtol=1e-4, atol=1e-5)


@each_interaction
def test_sparse_input_equals_ragged_input(interaction):
    tower = make(interaction=interaction)
    batch = features()
    sparse = {n: c.to_sparse() if isinstance(c, tf.RaggedTensor) else c for n, c in batch.items()}
    np.testing.assert_array_equal(tower(sparse), tower(batch))


@each_interaction
def test_user_without_anything_gets_a_finite_vector(interaction):
    spec = FeatureSpec(domains=SPEC.domains)
    tower = UserTower(spec, SIZES, dataclasses.replace(CONFIG, interaction=interaction), seed=3)
    result = tower(features([(0, {}, {})]))
    assert np.isfinite(result).all()


@each_interaction
def test_profile_alone_is_enough(interaction):
    spec = FeatureSpec(profile=SPEC.profile)
    config = dataclasses.replace(CONFIG, domain_dropout=0.5, interaction=interaction)
    tower = UserTower(spec, SIZES, config, seed=3)
    result = tower({"gender": tf.constant([0, 1, 0], tf.int64)}, training=True).numpy()
    np.testing.assert_allclose(result[0], result[2], atol=1e-6)
    assert np.isfinite(result).all()


@each_interaction
def test_weights_are_ignored_when_switched_off(interaction):
    tower = make(use_domain_weights=False, interaction=interaction)
    other = [(g, dict.fromkeys(c, 9.0), dict.fromkeys(s, 2.0)) for g, c, s in USERS]
    np.testing.assert_array_equal(tower(features()), tower(features(other)))


@each_interaction
@pytest.mark.parametrize(
    ("option", "is_same"), [("use_domain_totals", False), ("log_count_fields", False), ("", True)]
)
def test_totals_and_log_counts_tell_long_histories_from_short_ones(interaction, option, is_same):
    options = {name: name == option for name in ("use_domain_totals", "log_count_fields")}
    tower = make(**options, interaction=interaction)
    # The same shares.
    short, long = [(0, {1: 1.0, 2: 2.0}, {})], [(0, {1: 10.0, 2: 20.0}, {})]
    same = np.allclose(tower(features(short)), tower(features(long)), atol=1e-4)
    assert same is is_same


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_sums_to_one_and_names_every_field(heads):
    tower = make(num_heads=heads)
    attention = tower.attention(features())
    assert tower.field_names == (
        "gender",
        "clicked_tags",
        "clicked_tags_log",
        "skipped_items",
        "skipped_items_log",
        "clicked_tags_total",
        "skipped_items_total",
    )
    fields = attention["fields"].numpy()
    assert fields.shape == (4, 7, heads)
    np.testing.assert_allclose(fields.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(fields[1, [1, 2, 5]], 0)  # no clicks
    for name in ("clicked_tags", "clicked_tags_log"):
        values = attention[name]
        assert values.row_lengths().numpy().tolist() == [3, 0, 1, 0]
        np.testing.assert_allclose(tf.reduce_sum(values, axis=1)[0], [1] * heads, atol=1e-6)


@each_tower
def test_every_tower_says_what_it_looks_at(interaction, pooling):
    tower = make(interaction=interaction, pooling=pooling)
    attention = tower.attention(features())
    for i, user in enumerate(USERS):
        _, expected = embed_user(tower, {"gender": user[0]}, histories_of(user))
        assert set(expected) == set(attention)
        for name, weights in expected.items():
            found = np.reshape(attention[name][i], weights.shape)
            np.testing.assert_allclose(found, weights, atol=1e-5)


def test_average_looks_at_values_by_their_multiplicity():
    attention = make(interaction="nfm").attention(features())
    np.testing.assert_allclose(attention["clicked_tags"][0, :, 0], [2 / 7, 1 / 7, 4 / 7], rtol=1e-5)
    logs = np.log1p([2, 1, 4])
    np.testing.assert_allclose(attention["clicked_tags_log"][0, :, 0], logs / logs.sum(), rtol=1e-5)


def test_pairs_of_fields_are_named_in_the_order_of_their_attention():
    tower = make(interaction="afm", log_count_fields=False, use_domain_totals=False)
    assert tower.field_pairs == (
        ("gender", "clicked_tags"),
        ("gender", "skipped_items"),
        ("clicked_tags", "skipped_items"),
    )
    pairs = tower.attention(features())["field_pairs"].numpy()
    np.testing.assert_allclose(pairs[1], [0, 1, 0])  # no clicks
    np.testing.assert_allclose(pairs[3], [0, 0, 0])  # the profile alone


@each_tower
def test_every_weight_gets_a_gradient(interaction, pooling):
    tower = make(interaction=interaction, pooling=pooling)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tower(features(), training=True) ** 3)
    variables = tower.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).sum() > 0, variable.name


@pytest.mark.parametrize("interaction", ["youtube_dnn", "bag"])
def test_field_residual_changes_nothing_where_there_is_nothing_to_add(interaction):
    with_it, without = (make(interaction=interaction, field_residual=on) for on in (True, False))
    np.testing.assert_array_equal(with_it(features()), without(features()))


@each_interaction
def test_hiding_all_behaviour_in_training_leaves_the_profile(interaction):
    # Layer norm: in training a batch norm would compare the users, who are all without behaviour.
    tower = make(domain_dropout=0.999999, norm="layer", interaction=interaction)
    hidden = tower(features(), training=True)
    by_profile = tower(features([(user[0], {}, {}) for user in USERS]))
    np.testing.assert_allclose(hidden, by_profile, rtol=1e-4, atol=1e-4)
    assert np.abs(tower(features()) - by_profile)[:3].max(axis=1).min() > 1e-3


@each_interaction
def test_shared_tags_use_the_tag_towers_table(interaction):
    config = dataclasses.replace(CONFIG, share_tag_embeddings=True, interaction=interaction)
    tags = TagTower(7, config, seed=1)
    tower = UserTower(SPEC, SIZES, config, seed=3, tag_tower=tags)
    before = tower(features()).numpy()
    expected = expected_vectors(tower, shared=tags.embeddings.numpy())
    np.testing.assert_allclose(before, expected, rtol=1e-3, atol=1e-3)
    table = tags.embeddings.numpy()
    table[5] += 1.0
    tags.embeddings.assign(table)
    changed = np.abs(tower(features()).numpy() - before).max(axis=1) > 1e-6
    has_embeddings = config.interaction != "bag"
    np.testing.assert_array_equal(changed, [False, False, has_embeddings, False])


def test_shared_table_leaves_the_buckets_of_unknown_tags():
    config = dataclasses.replace(CONFIG, share_tag_embeddings=True)
    tower = UserTower(SPEC, SIZES, config, tag_tower=TagTower(7, config))
    table = tower.embedding_tables["clicked_tags"]
    assert (table.variable.shape, table.vocabulary, table.first_id) == ((1, 4), "tags", 7)


@pytest.mark.parametrize(
    ("interaction", "names"),
    [
        ("utpm", {"clicked_tags", "clicked_tags_total"}),
        ("bag", {"clicked_tags_shares", "clicked_tags_log_counts", "clicked_tags_total"}),
    ],
)
def test_tables_say_what_their_rows_are(interaction, names):
    tower = UserTower(
        dataclasses.replace(SPEC, domains=SPEC.domains[:1]),
        SIZES,
        dataclasses.replace(CONFIG, interaction=interaction),
    )
    tables = tower.embedding_tables
    assert set(tables) == {"gender"} | names
    assert tables["gender"].vocabulary == "profile_gender"
    for name in names:
        is_total = name.endswith("total")
        assert tables[name].vocabulary == (None if is_total else "tags")
        assert tables[name].variable.shape[0] == (1 if is_total else 8)


@each_interaction
def test_same_seed_gives_the_same_tower_and_another_does_not(interaction):
    config = dataclasses.replace(CONFIG, interaction=interaction)
    first, second, third = (UserTower(SPEC, SIZES, config, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first(features()), second(features()))
    assert np.abs(third(features()) - first(features())).max() > 1e-3


@each_interaction
def test_saved_tower_gives_the_same_vectors(interaction, tmp_path):
    tower = make(interaction=interaction)

    def embed(gender, tags, tag_weights, splits):
        batch = {
            "gender": gender,
            "clicked_tags": tf.RaggedTensor.from_row_splits(tags, splits),
            "clicked_tags_weights": tf.RaggedTensor.from_row_splits(tag_weights, splits),
            "skipped_items": tf.RaggedTensor.from_row_splits(tags, splits),
            "skipped_items_weights": tf.RaggedTensor.from_row_splits(tag_weights, splits),
        }
        return {"u": tower(batch)}

    module = tf.Module()
    # Tracking the variables alone spares the trace of every layer that Keras would add.
    module.parameters = tower.variables
    signature = tf.function(embed, autograph=False).get_concrete_function(
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([None], tf.int64),
    )
    tf.saved_model.save(module, str(tmp_path), signatures=signature)
    arguments = {
        "gender": tf.constant([0, 2], tf.int64),
        "tags": tf.constant([1, 4, 2], tf.int64),
        "tag_weights": tf.constant([1.0, 2.0, 1.0]),
        "splits": tf.constant([0, 3, 3], tf.int64),
    }
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](**arguments)["u"]
    np.testing.assert_allclose(loaded, embed(**arguments)["u"], atol=1e-5)


def wide_tensors(tower, batch, width):
    """Returns names of a training step's tensors whose second dimension is at least `width`."""

    def step(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tower(batch, training=True))
        return tape.gradient(loss, tower.trainable_variables)

    graph = tf.function(step, autograph=False).get_concrete_function(batch).graph
    tensors = [tensor for operation in graph.get_operations() for tensor in operation.outputs]
    shapes = {tensor.name: tensor.shape for tensor in tensors if tensor.shape.rank}
    return [
        name for name, shape in shapes.items() if any((size or 0) >= width for size in shape[1:])
    ]


# Pooled by attention, by an average, and as bags.
@pytest.mark.parametrize("interaction", ["utpm", "nfm", "bag"])
def test_no_step_holds_a_row_as_long_as_a_large_vocabulary(interaction, monkeypatch):
    width = 9_000
    monkeypatch.setattr(domain_attention, "DENSE_POOLING_MAX_ROWS", width - 1)
    sizes = {**SIZES, "tags": width, "item_id": width}
    tower = UserTower(SPEC, sizes, dataclasses.replace(CONFIG, interaction=interaction))
    assert not wide_tensors(tower, features(), width)
    # The same check finds the matrix of users and values by which small vocabularies are pooled.
    monkeypatch.setattr(domain_attention, "DENSE_POOLING_MAX_ROWS", width)
    assert wide_tensors(tower, features(), width)


@each_tower
def test_large_vocabularies_are_pooled_like_small_ones(interaction, pooling, monkeypatch):
    tower = make(interaction=interaction, pooling=pooling)
    expected = tower(features()).numpy()
    monkeypatch.setattr(domain_attention, "DENSE_POOLING_MAX_ROWS", 0)
    np.testing.assert_allclose(tower(features()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interaction", ["utpm", "bag"])
def test_missing_vocabulary_is_refused(interaction):
    config = dataclasses.replace(CONFIG, interaction=interaction)
    with pytest.raises(ValueError, match="`vocabulary_sizes` must contain `item_id`"):
        UserTower(SPEC, {"profile_gender": 3, "tags": 8}, config)


@pytest.mark.parametrize("name", ["clicked_tags_log", "clicked_tags_total", "fields"])
def test_two_fields_of_one_name_are_refused(name):
    spec = FeatureSpec(domains=(Domain("clicked_tags"), Domain(name)))
    with pytest.raises(ValueError, match=f"`domains` must have fields of other names.*{name}"):
        UserTower(spec, SIZES, CONFIG)


def test_sharing_without_a_tag_tower_is_refused():
    with pytest.raises(ValueError, match="`tag_tower` must be given"):
        UserTower(SPEC, SIZES, dataclasses.replace(CONFIG, share_tag_embeddings=True))


def test_candidate_embeddings_end_with_the_bias():
    tags = TagTower(5, CONFIG, seed=0)
    tags.bias.assign(np.arange(5.0))
    candidates = tags.candidate_embeddings().numpy()
    np.testing.assert_array_equal(candidates[:, :-1], tags.embeddings.numpy())
    np.testing.assert_array_equal(candidates[:, -1], np.arange(5.0))
    np.testing.assert_array_equal(tags(tf.constant([[3, 0]]))[0], tags.embeddings.numpy()[[3, 0]])
