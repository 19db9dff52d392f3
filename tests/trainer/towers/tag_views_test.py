"""The vectors of a tag's name, category and vector equal loops in Python."""

import json
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import ModelConfig
from trainer.towers.tag_views import TagAttributes, TagViews, load_tag_attributes, word_ids

U, BUCKETS = 3, 1_000
TAGS = (
    "dark comedy",
    "Comedy",
    "time-travel (1970's)",
    "été",
    "ÉTÉ",
    "",
    ":-)",
    "हिन्दी",
    "dark dark comedy",
)
CATEGORIES = ("film", "film", "", "book", "book", "", "film", "book", "")
VECTORS = np.random.default_rng(0).normal(size=(len(TAGS), 4)).astype(np.float32)
ATTRIBUTES = TagAttributes(TAGS, CATEGORIES, VECTORS)
ALL_VIEWS = ("words", "category", "vectors")


def make(views=ALL_VIEWS, attributes=ATTRIBUTES):
    """Makes views with random rows."""
    config = ModelConfig(output_dim=U, num_word_buckets=BUCKETS, tag_views=views)
    layer = TagViews(attributes, config)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer


def slow_words(tag):
    """Returns runs of letters, marks and digits, in lower case."""
    words = [""]
    for character in tag.lower():
        if unicodedata.category(character)[0] in "LMN":
            words[-1] += character
        elif words[-1]:
            words.append("")
    return [word for word in words if word]


def bucket(word):
    return int(tf.strings.to_hash_bucket_fast(word, BUCKETS))


def slow_row(layer, views, tag, category, vector):
    row = np.zeros(U + 2)
    if "words" in views and slow_words(tag):
        table = layer.word_rows.numpy()
        row += np.mean([table[bucket(word)] for word in slow_words(tag)], axis=0)
    if "category" in views and category in ("book", "film"):
        row += layer.category_rows.numpy()[["book", "film"].index(category)]
    if "vectors" in views:
        row += vector @ layer.vector_map.numpy()
    return row


def test_words_are_runs_of_letters_and_digits_of_any_script():
    expected = [
        ["dark", "comedy"],
        ["comedy"],
        ["time", "travel", "1970", "s"],
        ["été"],
        ["été"],
        [],
        [],
        ["हिन्दी"],
        ["dark", "dark", "comedy"],
    ]
    assert [slow_words(tag) for tag in TAGS] == expected
    found = word_ids(tf.constant(TAGS), BUCKETS).to_list()
    assert found == [[bucket(word) for word in words] for words in expected]


def test_word_buckets_are_the_same_in_every_process():
    # A served model must find the rows that another process trained: numbers of farmhash64.
    assert word_ids(tf.constant(["dark comedy", "été"]), 10_000).to_list() == [[4443, 3076], [534]]


@pytest.mark.parametrize("views", [("words",), ("category",), ("vectors",), ALL_VIEWS])
def test_rows_equal_the_loop_for_known_and_for_any_tags(views):
    layer = make(views)
    expected = np.array(
        [
            slow_row(layer, views, tag, category, vector)
            for tag, category, vector in zip(TAGS, CATEGORIES, VECTORS, strict=True)
        ]
    )
    np.testing.assert_allclose(layer.rows(), expected, atol=1e-5)
    ids = tf.constant([7, 2, 2, 0, 5], tf.int64)
    np.testing.assert_allclose(layer.rows(ids), expected[ids.numpy()], atol=1e-5)
    any_tags = layer.embed(tf.constant(TAGS), tf.constant(CATEGORIES), tf.constant(VECTORS))
    np.testing.assert_allclose(any_tags, expected, atol=1e-5)
    assert layer.rows(tf.zeros([0], tf.int64)).shape == (0, U + 2)


def test_unseen_tag_is_made_of_the_parts_it_shares():
    layer = make(("words", "category"))
    embedded = layer.embed(
        tf.constant(["COMEDY, dark", "comedy", "comedy"]), tf.constant(["film", "game", ""])
    ).numpy()
    np.testing.assert_allclose(embedded[0], layer.rows().numpy()[0], atol=1e-6)
    comedy = layer.word_rows.numpy()[bucket("comedy")]
    np.testing.assert_allclose(embedded[1], comedy, atol=1e-6)
    np.testing.assert_allclose(embedded[2], comedy, atol=1e-6)


def test_fresh_views_are_zero_and_learn():
    config = ModelConfig(output_dim=U, num_word_buckets=BUCKETS, tag_views=ALL_VIEWS)
    layer = TagViews(ATTRIBUTES, config)
    with tf.GradientTape() as tape:
        rows = layer.rows(tf.constant([0]))
        loss = tf.reduce_sum(rows * [[1.0, 2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(rows, np.zeros((1, U + 2)))
    gradients = dict(
        zip(
            ("words", "category", "vectors"),
            tape.gradient(loss, [layer.word_rows, layer.category_rows, layer.vector_map]),
            strict=True,
        )
    )
    words = tf.convert_to_tensor(gradients["words"]).numpy()
    for word in ("dark", "comedy"):
        np.testing.assert_allclose(words[bucket(word)], [0.5, 1, 1.5, 2, 2.5])
    assert np.count_nonzero(words) == 2 * (U + 2)
    expected = np.zeros((2, U + 2))
    expected[1] = [1, 2, 3, 4, 5]
    np.testing.assert_allclose(tf.convert_to_tensor(gradients["category"]), expected)
    np.testing.assert_allclose(
        gradients["vectors"], np.outer(VECTORS[0], [1, 2, 3, 4, 5]), rtol=1e-5
    )


def test_log_without_any_category_has_no_row_to_add():
    attributes = TagAttributes(("a", "b"), ("", ""))
    layer = make(("category",), attributes)
    np.testing.assert_array_equal(layer.rows(), np.zeros((2, U + 2)))
    embedded = layer.embed(tf.constant(["c"]), tf.constant(["film"]))
    np.testing.assert_array_equal(embedded, np.zeros((1, U + 2)))


def test_vector_view_without_vectors_is_refused():
    with pytest.raises(ValueError, match="`tag_views` must not name `vectors` without"):
        make(("vectors",), TagAttributes(("a",), ("",)))


def test_embedding_without_the_vectors_of_that_view_is_refused():
    with pytest.raises(ValueError, match="`vectors` must be given where that view is on"):
        make(("vectors",)).embed(tf.constant(["a"]), tf.constant([""]))


def test_taken_attributes_are_those_of_the_ids_in_their_order():
    taken = ATTRIBUTES.take(np.array([3, 0]))
    assert taken.tags == ("été", "dark comedy")
    assert taken.categories == ("book", "film")
    np.testing.assert_array_equal(taken.vectors, VECTORS[[3, 0]])
    assert TagAttributes(("a",), ("",)).take(np.array([0])).vectors is None


@pytest.mark.parametrize(
    ("categories", "vectors", "message"),
    [
        (("x",), None, "`categories` must be 2 values"),
        (("x", ""), np.zeros((3, 4), np.float32), "`vectors` must have 2 rows"),
        (("x", ""), np.zeros(2, np.float32), "`vectors` must have 2 rows"),
    ],
)
def test_attributes_of_other_tags_are_refused(categories, vectors, message):
    with pytest.raises(ValueError, match=message):
        TagAttributes(("a", "b"), categories, vectors)


# --- files ---


@pytest.fixture
def tags_file(tmp_path):
    rows = [
        {"tag": "b", "clicks": 1, "impressions": 2, "items": 1, "category": "x"},
        {"tag": "a", "clicks": 5, "impressions": 9, "items": 2, "category": None},
        {"tag": "é", "clicks": 0, "impressions": 0, "items": 1, "category": "y"},
    ]
    path = tmp_path / "tags.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def write_vectors(path, tags, vectors):
    encoded = np.frombuffer(json.dumps(tags).encode(), np.uint8)
    np.savez(path, tags=encoded, vectors=np.array(vectors, np.float32))
    return str(path)


def test_attributes_are_read_in_order_of_the_ids(tags_file, tmp_path):
    vectors = write_vectors(tmp_path / "v.npz", ["é", "other", "b"], [[1, 2], [3, 4], [5, 6]])
    attributes = load_tag_attributes(tags_file, ["a", "b", "c", "é"], vectors)
    assert attributes.tags == ("a", "b", "c", "é")
    assert attributes.categories == ("", "x", "", "y")
    np.testing.assert_array_equal(attributes.vectors, [[0, 0], [5, 6], [0, 0], [1, 2]])
    assert load_tag_attributes(tags_file, ["a"]).vectors is None


def test_vectors_of_other_tags_alone_are_refused(tags_file, tmp_path):
    vectors = write_vectors(tmp_path / "v.npz", ["A", "B"], [[1], [2]])
    with pytest.raises(ValueError, match="`data.tag_vectors` must have a vector for at least one"):
        load_tag_attributes(tags_file, ["a", "b"], vectors)
