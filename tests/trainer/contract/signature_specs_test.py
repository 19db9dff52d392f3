"""Graphs get their inputs from the table, and other outputs than the table's are refused."""

import pytest
import tensorflow as tf

from tagtower_client.signature_rows import WITH_CLICK_LOSS, WITH_TAG_VIEWS, Export
from trainer.contract import signatures as s
from trainer.contract.signature_specs import SignatureMaker

USERS = {
    "age": tf.TensorSpec([None], tf.float32, "age"),
    "clicked": tf.TensorSpec([None, None], tf.string, "clicked"),
    "clicked_weights": tf.TensorSpec([None, None], tf.float32, "clicked_weights"),
}
VECTORS = {s.CANDIDATE_EMBEDDINGS: tf.zeros([5, 3]), s.RANKING_EMBEDDINGS: tf.zeros([5, 3])}


def maker(export=Export.TOWERS, *properties):
    return SignatureMaker(export, USERS, {"d": 3}, frozenset(properties))


def embed(**inputs):
    return {s.QUERY_EMBEDDINGS: tf.zeros([tf.shape(inputs["age"])[0], 3])}


def test_inputs_are_the_features_and_the_rows_of_the_table_in_this_order():
    def score(**inputs):
        logits = tf.zeros(tf.shape(inputs[s.CANDIDATE_TAGS]))
        return {s.SCORES: logits, s.MULTI_CLASS_LOGITS: logits}

    made = maker().make({s.EMBED_USERS: embed, s.SCORE_TAGS: score})

    assert list(made) == [s.EMBED_USERS, s.SCORE_TAGS]
    assert made[s.EMBED_USERS].structured_input_signature[1] == USERS
    assert made[s.SCORE_TAGS].structured_input_signature[1] == {
        **USERS,
        "candidate_tags": tf.TensorSpec([None, None], tf.string, "candidate_tags"),
    }
    found = made[s.EMBED_USERS](
        age=tf.zeros([2]), clicked=tf.fill([2, 1], "a"), clicked_weights=tf.ones([2, 1])
    )
    assert found[s.QUERY_EMBEDDINGS].numpy().tolist() == [[0.0] * 3] * 2


def test_what_depends_on_the_model_is_there_where_it_has_it():
    tables = {s.TAGS: tf.fill([5], "a"), **VECTORS}
    clicks = {s.CLICK_EMBEDDINGS: tf.zeros([5, 3])}

    maker().make({s.CANDIDATES: lambda: tables})
    maker(Export.TOWERS, WITH_CLICK_LOSS).make({s.CANDIDATES: lambda: tables | clicks})

    with pytest.raises(ValueError, match="`candidates` must have the outputs candidate_embeddings"):
        maker().make({s.CANDIDATES: lambda: tables | clicks})


def test_a_signature_whose_condition_the_model_does_not_meet_is_left_out():
    def embed_tags(**inputs):
        size = tf.size(inputs[s.TAGS])
        vectors = {name: tf.zeros([size, 3]) for name in VECTORS}
        return {**vectors, s.IS_KNOWN: tf.fill([size], True)}

    assert maker().make({s.EMBED_TAGS: embed_tags}) == {}
    made = maker(Export.TOWERS, WITH_TAG_VIEWS).make({s.EMBED_TAGS: embed_tags})
    assert set(made[s.EMBED_TAGS].structured_input_signature[1]) == {"tags", "tag_categories"}


def test_outputs_for_each_list_have_its_name():
    def explain(**inputs):
        batch, width = tf.shape(inputs["age"])[0], tf.shape(inputs["clicked"])
        by_feature, top = tf.zeros([batch, 2]), tf.zeros([batch, 10])
        return {
            s.SCORE: tf.zeros([batch]),
            s.FEATURES: tf.fill([batch, 2], "a"),
            s.ATTENTION_BY_FEATURE: by_feature,
            s.CONTRIBUTIONS_BY_FEATURE: by_feature,
            "attention_of_clicked": tf.zeros(width),
            "contributions_of_clicked": tf.zeros(width),
            s.TOP_DOMAINS: tf.fill([batch, 10], ""),
            s.TOP_VALUES: tf.fill([batch, 10], ""),
            s.TOP_CONTRIBUTIONS: top,
        }

    made = maker().make({s.EXPLAIN: explain})

    assert "contributions_of_clicked" in made[s.EXPLAIN].structured_outputs


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, r"`embed_users` must have the outputs query_embeddings\. .*=\[\]\.$"),
        (
            {s.QUERY_EMBEDDINGS: tf.zeros([2, 3]), "more": tf.zeros([2])},
            r"query_embeddings\. Received: embed_users=\['more', 'query_embeddings'\]\.$",
        ),
        (
            {s.QUERY_EMBEDDINGS: tf.zeros([2, 3], tf.float64)},
            r"`embed_users\.query_embeddings` must be float32 \(None, 3\)\. .*='float64 \(2, 3\)'",
        ),
        ({s.QUERY_EMBEDDINGS: tf.zeros([2, 4])}, r"must be float32 \(None, 3\)\. .* \(2, 4\)"),
    ],
)
def test_other_outputs_than_the_table_says_are_refused(outputs, message):
    with pytest.raises(ValueError, match=message):
        maker().make({s.EMBED_USERS: lambda **inputs: outputs})


def test_a_signature_that_the_table_lacks_is_refused():
    with pytest.raises(ValueError, match="`signatures` must be in the table of signatures.*mine"):
        maker().make({"mine": embed})
