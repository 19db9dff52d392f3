import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig
from trainer.features import Domain, FeatureSpec, ProfileFeature
from trainer.tag_tower import TagTower
from trainer.user_tower import UserTower

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


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


def slow_user(tower, user, config):
    """The tower of docs/model.md for one user, in loops."""
    queries = tower.queries.numpy()

    def score(layer, vector, head):
        kernel, bias = layer.get_weights()
        return queries[head] @ np.maximum(vector @ kernel[head] + bias[0], 0)

    def norm(layer, x):
        gamma, beta, mean, variance = layer.get_weights()
        return gamma * (x - mean) / np.sqrt(variance + 1e-6) + beta

    tables = {name: variable.numpy() for name, variable in tower._tables.items()}
    fields = [np.tile(tables["gender"][user[0]], (2, 1))]
    present = [True]
    weightings = {"": lambda w: w}
    if config.log_count_fields:
        weightings["_log"] = np.log1p
    for values, name in ((user[1], "clicked_tags"), (user[2], "skipped_items")):
        for suffix, weigh in weightings.items():
            field = np.zeros((2, 4))
            layer = tower.intra_attention[name + suffix]
            for head in range(2):
                if values:
                    scores = [
                        score(layer, tables[name][v], head) + np.log(weigh(w))
                        for v, w in values.items()
                    ]
                    attention = softmax(np.array(scores))
                    rows = [a * tables[name][v] for a, v in zip(attention, values, strict=True)]
                    field[head] = sum(rows)
            fields.append(field)
            present.append(bool(values))
    if config.use_domain_totals:
        for values, name in ((user[1], "clicked_tags"), (user[2], "skipped_items")):
            total = np.log1p(sum(values.values())) / 5
            fields.append(np.tile(total * tower._totals[name].numpy(), (2, 1)))
            present.append(bool(values))
    x = []
    for head in range(2):
        rows = [k for k, there in enumerate(present) if there]
        attention = softmax(
            np.array([score(tower.inter_attention, fields[k][head], head) for k in rows])
        )
        x.append(sum(a * fields[k][head] for a, k in zip(attention, rows, strict=True)))
    x = np.concatenate(x)
    latent, linear = tower.cross.latent.numpy(), tower.cross.linear.numpy()
    crossed = [latent[i] @ latent[j] * x[i] * x[j] for i in range(8) for j in range(i + 1, 8)]
    z = [
        norm(tower.cross._linear_norm, linear * x),
        norm(tower.cross._cross_norm, np.array(crossed)),
    ]
    if config.field_residual:
        stacked = np.concatenate([f.reshape(-1) * p for f, p in zip(fields, present, strict=True)])
        z.append(norm(tower.field_norm, stacked))
    kernel, bias = tower.hidden.get_weights()
    hidden = np.maximum(np.concatenate(z) @ kernel + bias, 0)
    kernel, bias = tower.last.get_weights()
    return hidden @ kernel + bias


@pytest.mark.parametrize(
    "changes",
    [{}, {"field_residual": False, "use_domain_totals": False, "log_count_fields": False}],
)
def test_user_tower_equals_the_loops(changes):
    tower = make(**changes)
    expected = [slow_user(tower, user, tower.config) for user in USERS]
    np.testing.assert_allclose(tower(features()), expected, rtol=2e-4, atol=2e-4)


def test_order_of_values_and_batch_do_not_matter():
    tower = make()
    shuffled = (0, {3: 4.0, 1: 2.0, 7: 1.0}, {4: 1.0})
    alone = tower(features([shuffled]))
    np.testing.assert_allclose(tower(features())[0], alone[0], rtol=1e-4, atol=1e-5)


def test_sparse_input_equals_ragged_input():
    tower = make()
    batch = features()
    sparse = {n: c.to_sparse() if isinstance(c, tf.RaggedTensor) else c for n, c in batch.items()}
    np.testing.assert_array_equal(tower(sparse), tower(batch))


def test_user_without_anything_gets_a_finite_vector():
    spec = FeatureSpec(domains=SPEC.domains)
    tower = UserTower(spec, SIZES, CONFIG, seed=3)
    result = tower(features([(0, {}, {})]))
    assert np.isfinite(result).all()


def test_weights_are_ignored_when_switched_off():
    tower = make(use_domain_weights=False)
    other = [(g, dict.fromkeys(c, 9.0), dict.fromkeys(s, 2.0)) for g, c, s in USERS]
    np.testing.assert_array_equal(tower(features()), tower(features(other)))


def test_totals_tell_long_histories_from_short_ones():
    short, long = [(0, {1: 1.0, 2: 2.0}, {})], [(0, {1: 10.0, 2: 20.0}, {})]
    for totals, expected in ((True, False), (False, True)):
        tower = make(use_domain_totals=totals, log_count_fields=False)
        same = np.allclose(tower(features(short)), tower(features(long)), atol=1e-4)
        assert same is expected


def test_attention_sums_to_one_and_names_every_field():
    tower = make()
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
    assert fields.shape == (4, 7, 2)
    np.testing.assert_allclose(fields.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(fields[1, [1, 2, 5]], 0)  # no clicks
    values = attention["clicked_tags"]
    assert values.row_lengths().numpy().tolist() == [3, 0, 1, 0]
    np.testing.assert_allclose(tf.reduce_sum(values, axis=1)[0], [1, 1], atol=1e-6)


def test_hiding_all_behaviour_in_training_leaves_the_profile():
    tower = make(domain_dropout=0.999999, field_residual=False, cross_normalization="none")
    hidden = tower(features(), training=True)
    by_profile = tower(features([(user[0], {}, {}) for user in USERS]))
    np.testing.assert_allclose(hidden, by_profile, rtol=1e-4, atol=1e-5)


def test_shared_tags_use_the_tag_towers_table():
    config = dataclasses.replace(CONFIG, share_tag_embeddings=True)
    tags = TagTower(7, config, seed=1)
    tower = UserTower(SPEC, SIZES, config, seed=3, tag_tower=tags)
    before = tower(features()).numpy()
    assert tower._tables["clicked_tags"].shape == (1, 4)  # the bucket of unknown tags alone
    table = tags.embeddings.numpy()
    table[5] += 1.0
    tags.embeddings.assign(table)
    changed = np.abs(tower(features()).numpy() - before).max(axis=1) > 1e-6
    np.testing.assert_array_equal(changed, [False, False, True, False])


def test_same_seed_gives_the_same_tower_and_another_does_not():
    first, second, third = (UserTower(SPEC, SIZES, CONFIG, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first(features()), second(features()))
    assert np.abs(third(features()) - first(features())).max() > 1e-3


def test_saved_tower_gives_the_same_vectors(tmp_path):
    tower = make()

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
    signature = tf.function(embed).get_concrete_function(
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
    np.testing.assert_allclose(loaded, embed(**arguments)["u"], atol=1e-6)


def test_missing_vocabulary_is_refused():
    with pytest.raises(ValueError, match="`vocabulary_sizes` must contain `item_id`"):
        UserTower(SPEC, {"profile_gender": 3, "tags": 8}, CONFIG)


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
