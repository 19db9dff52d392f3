"""Towers of a profile feature and a domain, small enough to work every answer out by hand."""

import numpy as np
import tensorflow as tf

from tests.toy_towers import ToyTowers
from trainer.contract import signatures as s
from trainer.contract.config_loader import to_mapping
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature
from trainer.contract.tag_normalization import TagNormalization

TAGS = ("jazz", "blues", "metal", "techno", "folk")
COUNTRIES = ("", "at", "fr")
K = 3
# Small whole numbers: products without rounding.
VECTORS = np.array([[3, 1, 0], [2, 0, 1], [0, 4, 0], [0, 2, -3], [1, -1, 2]], np.float32)
CLICKS = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 0], [0, 1, 1]], np.float32)
BY_COUNTRY = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 1]], np.float32)
SPEC = FeatureSpec(
    profile=(ProfileFeature("country"),), domains=(Domain("clicked_tags", max_values=100),)
)
DESCRIPTION = {
    "features": to_mapping(SPEC),
    "tag_normalization": to_mapping(TagNormalization()),
    "index": {"num_tags": len(TAGS)},
}


class ListeningTowers(ToyTowers):
    """A user's vector is his country's, and that of every tag he clicked times its weight.

    The click logit of an item is the user's product with the sum of its tags' click vectors.
    """

    def __init__(self):
        super().__init__(BY_COUNTRY, VECTORS, CLICKS)
        self.tags = tf.Variable(TAGS)

    def rows(self, names: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """One-hot, all 0 for a string that is not known."""
        return tf.cast(names[..., None] == known, tf.float32)

    def embed_lists(self, country, clicked_tags, clicked_tags_weights):
        by_country = tf.linalg.matmul(self.rows(country, tf.constant(COUNTRIES)), self.users)
        vectors = tf.einsum("bnt,td->bnd", self.rows(clicked_tags, self.tags), self.candidates)
        return by_country + tf.einsum("bnd,bn->bd", vectors, clicked_tags_weights)

    def score_tags(self, queries, tags):
        rows = self.rows(tags, self.tags)
        scores = tf.einsum("bd,bmt,td->bm", queries, rows, self.candidates)
        scores = tf.where(tf.reduce_any(rows > 0, -1), scores, np.nan)
        return {s.SCORES: scores, s.MULTI_CLASS_LOGITS: scores}

    def score_items(self, queries, items):
        rows = tf.reduce_sum(self.rows(items, self.tags), axis=2)
        logits = tf.einsum("bd,bmt,td->bm", queries, rows, self.clicks)
        return {s.CLICK_LOGITS: logits, s.CLICK_PROBABILITIES: tf.sigmoid(logits)}

    def explain(self, tags, country, clicked_tags, clicked_tags_weights):
        vector = tf.einsum("bt,td->bd", self.rows(tags, self.tags), self.candidates)
        query = self.embed_lists(country, clicked_tags, clicked_tags_weights)
        of_history = query - self.embed_lists(
            country, clicked_tags[:, :0], clicked_tags_weights[:, :0]
        )
        each = tf.einsum("bnt,td->bnd", self.rows(clicked_tags, self.tags), self.candidates)
        each = tf.einsum("bnd,bd->bn", each, vector) * clicked_tags_weights
        by_feature = [tf.reduce_sum(vector * part, 1) for part in (query - of_history, of_history)]
        batch = tf.shape(tags)[0]
        return {
            s.SCORE: tf.reduce_sum(query * vector, 1),
            s.FEATURES: tf.tile([["country", "clicked_tags"]], [batch, 1]),
            s.ATTENTION_BY_FEATURE: tf.fill([batch, 2], 0.5),
            s.CONTRIBUTIONS_BY_FEATURE: tf.stack(by_feature, 1),
            s.attention_of("clicked_tags"): clicked_tags_weights,
            s.contributions_of("clicked_tags"): each,
            # No list is named: the client makes its own order of the values.
            s.TOP_DOMAINS: tf.fill([batch, 10], ""),
            s.TOP_VALUES: tf.fill([batch, 10], ""),
            s.TOP_CONTRIBUTIONS: tf.zeros([batch, 10]),
        }

    def functions(self):
        raw = [
            tf.TensorSpec([None], tf.string, "country"),
            tf.TensorSpec([None, None], tf.string, "clicked_tags"),
            tf.TensorSpec([None, None], tf.float32, "clicked_tags_weights"),
        ]
        tags = tf.TensorSpec([None, None], tf.string, s.CANDIDATE_TAGS)
        items = tf.TensorSpec([None, None, None], tf.string, s.ITEM_TAGS)
        tag = tf.TensorSpec([None], tf.string, s.EXPLAINED_TAG)

        def embed_examples(**inputs):
            spec = {"country": tf.io.FixedLenFeature([], tf.string, "")}
            country = tf.io.parse_example(inputs[s.EXAMPLES], spec)["country"]
            nothing = tf.zeros([tf.shape(country)[0], 0])
            without_history = self.embed_lists(country, tf.strings.as_string(nothing), nothing)
            return {s.QUERY_EMBEDDINGS: without_history}

        return super().functions() | {
            s.EMBED_EXAMPLES: (embed_examples, [tf.TensorSpec([None], tf.string, s.EXAMPLES)]),
            s.EMBED_USERS: (lambda **i: {s.QUERY_EMBEDDINGS: self.embed_lists(**i)}, raw),
            s.SCORE_TAGS: (
                lambda **i: self.score_tags(self.embed_lists(**without(i, tags)), i[tags.name]),
                [*raw, tags],
            ),
            s.SCORE_ITEMS: (
                lambda **i: self.score_items(self.embed_lists(**without(i, items)), i[items.name]),
                [*raw, items],
            ),
            s.EXPLAIN: (lambda **i: self.explain(i[tag.name], **without(i, tag)), [*raw, tag]),
        }


def without(inputs: dict[str, tf.Tensor], spec: tf.TensorSpec) -> dict[str, tf.Tensor]:
    return {name: tensor for name, tensor in inputs.items() if name != spec.name}
