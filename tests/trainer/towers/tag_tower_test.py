"""The candidate tower: sums of id and views, hidden ids in training, tags without an id."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig
from trainer.towers.tag_tower import TagTower, TagVectors
from trainer.towers.tag_views import TagAttributes

U, NUM_TAGS = 3, 40
TAGS = tuple(f"word{i % 7} name{i}" for i in range(NUM_TAGS))
ATTRIBUTES = TagAttributes(
    TAGS,
    tuple(("x", "y", "")[i % 3] for i in range(NUM_TAGS)),
    np.random.default_rng(0).normal(size=(NUM_TAGS, 2)).astype(np.float32),
)
ALL_VIEWS = ("words", "category", "vectors")


def make(views=ALL_VIEWS, seed=0, id_dropout=0.0):
    """Makes a tower with random values everywhere."""
    config = ModelConfig(output_dim=U, num_word_buckets=100, tag_views=views, id_dropout=id_dropout)
    tower = TagTower(NUM_TAGS, config, seed, ATTRIBUTES)
    rng = np.random.default_rng(1)
    for weight in tower.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return tower


def columns(vectors):
    """Returns embeddings, bias and click bias side by side, as the rows of the views."""
    parts = (vectors.embeddings, vectors.bias[:, tf.newaxis], vectors.click_bias[:, tf.newaxis])
    return tf.concat(parts, axis=1).numpy()


def id_rows(tower):
    return columns(TagVectors(tower.embeddings, tower.bias, tower.click_bias))


def view_rows(tower):
    return tower.views.rows().numpy()


def test_without_views_the_tower_is_its_table():
    tower = make(views=())
    assert [weight.name for weight in tower.weights] == [
        "embeddings:0",
        "bias:0",
        "click_bias:0",
        "click_scale:0",
        "click_offset:0",
    ]
    np.testing.assert_array_equal(columns(tower.vectors(training=True)), id_rows(tower))
    ids = tf.constant([3, 3, 0])
    np.testing.assert_array_equal(columns(tower.vectors(ids)), id_rows(tower)[ids.numpy()])
    np.testing.assert_array_equal(tower(ids), id_rows(tower)[ids.numpy(), :U])
    np.testing.assert_array_equal(tower.candidate_embeddings(), id_rows(tower)[:, : U + 1])


def test_with_views_a_tag_is_id_plus_views():
    tower = make()
    expected = id_rows(tower) + view_rows(tower)
    assert np.abs(view_rows(tower)).min(axis=1).max() > 0
    np.testing.assert_allclose(columns(tower.vectors()), expected, atol=1e-6)
    ids = tf.constant([5, 39, 5], tf.int64)
    np.testing.assert_allclose(columns(tower.vectors(ids)), expected[ids.numpy()], atol=1e-6)
    np.testing.assert_allclose(tower.candidate_embeddings(), expected[:, : U + 1], atol=1e-6)


def test_fresh_views_leave_the_tower_as_it_is_without_them():
    configs = [ModelConfig(output_dim=U, tag_views=views) for views in ((), ALL_VIEWS)]
    plain, viewed = (TagTower(NUM_TAGS, config, 3, ATTRIBUTES) for config in configs)
    np.testing.assert_array_equal(columns(plain.vectors()), columns(viewed.vectors()))


def hidden_tags(tower, vectors, ids=slice(None)):
    """Returns which rows are the views alone; all others must be id plus views, unscaled."""
    found = columns(vectors)
    with_id, without = id_rows(tower)[ids] + view_rows(tower)[ids], view_rows(tower)[ids]
    is_hidden = np.isclose(found, without, atol=1e-5).all(axis=1)
    np.testing.assert_allclose(found[~is_hidden], with_id[~is_hidden], atol=1e-5)
    return is_hidden


def test_id_dropout_hides_whole_ids_at_its_rate_and_scales_nothing():
    tower = make(id_dropout=0.3)
    draws = np.array([hidden_tags(tower, tower.vectors(training=True)) for _ in range(100)])
    # 4,000 draws: the standard deviation of their mean is .007.
    assert draws.mean() == pytest.approx(0.3, abs=0.03)
    # Each tag is hidden on its own, drawn again at every step.
    assert draws.any(axis=0).all()
    assert not draws.all(axis=0).any()
    assert len(np.unique(draws, axis=0)) > 90


def test_id_dropout_is_for_training_alone():
    tower = make(id_dropout=0.9)
    for training in (False, None):
        assert not hidden_tags(tower, tower.vectors(training=training)).any()


def test_tag_asked_for_twice_is_hidden_in_both_places_or_in_none():
    tower = make(id_dropout=0.5)
    ids = np.random.default_rng(0).integers(0, NUM_TAGS, 300)
    is_hidden = hidden_tags(tower, tower.vectors(tf.constant(ids), training=True), ids)
    for tag in range(NUM_TAGS):
        assert len(set(is_hidden[ids == tag])) == 1
    assert 0 < is_hidden.mean() < 1


def test_hidden_id_gets_no_gradient_and_views_all_of_it():
    tower = make(id_dropout=0.5)
    with tf.GradientTape() as tape:
        rows = tower.vectors(training=True)
        loss = tf.reduce_sum(rows.embeddings) + tf.reduce_sum(rows.bias)
    is_hidden = hidden_tags(tower, rows)
    by_id, by_vector = tape.gradient(loss, [tower.embeddings, tower.views.vector_map])
    np.testing.assert_array_equal(by_id, np.repeat(1.0 - is_hidden[:, np.newaxis], U, axis=1))
    expected = ATTRIBUTES.vectors.sum(axis=0)
    np.testing.assert_allclose(by_vector[:, 0], expected, rtol=1e-4)


def test_same_seed_hides_the_same_tags():
    def draws(seed):
        tower = make(id_dropout=0.5, seed=seed)
        return [columns(tower.vectors(training=True)) for _ in range(3)]

    first, again, other = draws(1), draws(1), draws(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_of_few_tags_give_sparse_gradients():
    # A step over a large vocabulary must not touch the tables as a whole.
    tower = make(views=("words", "category"), id_dropout=0.5)
    tables = [tower.embeddings, tower.views.word_rows]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tower.vectors(tf.constant([4, 11]), training=True).embeddings)
    by_id, by_word = tape.gradient(loss, tables)
    assert sorted(by_id.indices.numpy()) == [4, 11]
    assert len(by_word.indices) == 4  # two words a tag


def embed(tower, ids, tags, categories, vectors):
    return columns(
        tower.embed(
            tf.constant(ids), tf.constant(tags), tf.constant(categories), tf.constant(vectors)
        )
    )


def test_new_tag_with_the_attributes_of_a_known_one_gets_its_views_alone():
    tower = make()
    categories = [ATTRIBUTES.categories[i] for i in range(NUM_TAGS)]
    found = embed(tower, [-1] * NUM_TAGS, TAGS, categories, ATTRIBUTES.vectors)
    np.testing.assert_allclose(found, view_rows(tower), atol=1e-5)


def test_known_tag_keeps_its_trained_row_whatever_is_said_of_it():
    tower = make()
    found = embed(tower, [7, -1, 0], ["a", "a", "b"], ["x", "x", ""], np.ones((3, 2), np.float32))
    trained = id_rows(tower) + view_rows(tower)
    np.testing.assert_allclose(found[[0, 2]], trained[[7, 0]], atol=1e-6)
    alone = embed(tower, [-1], ["a"], ["x"], np.ones((1, 2), np.float32))
    np.testing.assert_allclose(found[1:2], alone, atol=1e-6)


def test_new_tag_without_views_has_zeros():
    tower = make(views=())
    found = columns(
        tower.embed(tf.constant([-1, 2]), tf.constant(["a", "b"]), tf.constant(["", ""]))
    )
    np.testing.assert_array_equal(found[0], np.zeros(U + 2))
    np.testing.assert_array_equal(found[1], id_rows(tower)[2])


@pytest.mark.parametrize("views", [(), ALL_VIEWS])
def test_frozen_tower_answers_as_before(views):
    tower = make(views)
    ids = tf.constant([8, 1])
    before, some = columns(tower.vectors()), columns(tower.vectors(ids))
    new = embed(tower, [3, -1], ["a", "word1"], ["", "x"], np.ones((2, 2), np.float32))
    tower.freeze()
    np.testing.assert_array_equal(columns(tower.vectors()), before)
    np.testing.assert_array_equal(columns(tower.vectors(ids)), some)
    again = embed(tower, [3, -1], ["a", "word1"], ["", "x"], np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(again, new)


def test_frozen_tower_is_not_trained():
    tower = make()
    tower.freeze()
    with pytest.raises(ValueError, match="`training` must be false for a frozen tower"):
        tower.vectors(training=True)


def test_graph_of_a_frozen_tower_holds_no_attributes_of_the_tags():
    tower = make()
    tower.freeze()
    function = tf.function(tower.candidate_embeddings, autograph=False).get_concrete_function()
    # Variables; the words, categories and vectors would be captured as constants.
    assert {external.dtype for external, _ in function.graph.captures} == {tf.resource}


@pytest.mark.parametrize("attributes", [None, ATTRIBUTES.take(np.arange(5))])
def test_views_without_attributes_of_every_tag_are_refused(attributes):
    config = ModelConfig(output_dim=U, tag_views=("words",))
    with pytest.raises(ValueError, match="`attributes` must be those of 40 tags"):
        TagTower(NUM_TAGS, config, attributes=attributes)


def test_tower_without_tags_is_refused():
    with pytest.raises(ValueError, match="`num_tags` must be a positive integer"):
        TagTower(0, ModelConfig(output_dim=U))
