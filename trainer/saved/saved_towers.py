"""Saves the trained towers as a SavedModel that takes raw features and returns vectors and scores.

It contains the vocabularies (`trainer.saved.feature_ids`), so that a caller sends strings. It does
not contain the index, which a node of its own builds from the signature `CANDIDATES` and can
rebuild without training.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from tagtower_client.signature_rows import (
    WITH_CLICK_LOSS,
    WITH_TAG_VIEWS,
    WITH_VECTOR_VIEW,
    Export,
)
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.raw_features import parse_examples, raw_signature
from trainer.contract.signature_specs import SignatureMaker
from trainer.evaluation.calibration import Calibration
from trainer.evaluation.second_stage import mixed
from trainer.model import InterestModel
from trainer.saved.explanations import explain, padded_outputs
from trainer.saved.feature_ids import FeatureIds, vocabulary_names
from trainer.saved.served_tower import ServedTower
from trainer.saved.user_values import UserValues, signature
from trainer.towers.tag_tower import TagVectors


@dataclasses.dataclass(frozen=True)
class _TracedOnce:
    """Parts of the computation that several signatures share, as functions in the saved graph.

    What is saved is loaded often: a part that stood in every signature would be read, and kept in
    memory, once for each of them.
    """

    embed: Callable[..., tf.Tensor]
    score_items: Callable[..., dict[str, tf.Tensor]]


class SavedTowers(tf.Module):
    """The towers of a trained model with the functions that are saved as signatures."""

    def __init__(
        self,
        model: InterestModel,
        transform_output: tft.TFTransformOutput,
        click_weight: float = 0.0,
        item_calibration: Calibration | None = None,
    ):
        """Initializes with a trained model.

        Args:
          model: The model, called at least once.
          transform_output: The transform that made the model's examples.
          click_weight: w, the weight of the second stage.
          item_calibration: Calibration of click probabilities; None: the sigmoid of the logits.
        """
        super().__init__(name="towers")
        # Views of the tags are computed now and not in every request.
        model.tag_tower.freeze()
        views = model.tag_tower.views
        self._category_table = None if views is None else views.category_table
        # The variables and the functions below are saved. If the Keras model itself were tracked,
        # TensorFlow would needlessly trace and describe every layer again, for half a minute.
        self._variables = [*model.tag_tower.variables, *model.click_head.variables]
        self._get_model = lambda: model
        self._spec: f.FeatureSpec = model.spec
        self._click_weight = click_weight
        self._item_calibration = item_calibration or Calibration()
        tags = transform_output.vocabulary_by_name(f.TAG_VOCABULARY)
        self._tags = tf.Variable(tags, trainable=False, name="tags")
        names = vocabulary_names(self._spec)
        files = {name: transform_output.vocabulary_file_by_name(name) for name in names}
        self.feature_ids = FeatureIds(self._spec, files)
        self.user_tower = ServedTower(model)
        self._traced = _TracedOnce(
            embed=tf.function(
                self._embed_columns, input_signature=list(signature(self._spec)), autograph=False
            ),
            score_items=tf.function(
                self._score_items,
                input_signature=[
                    tf.TensorSpec([None, model.query_dim], tf.float32),
                    tf.TensorSpec([None, None, None], tf.int64),
                ],
                autograph=False,
            ),
        )

    def _embed_columns(self, *columns: tf.Tensor) -> tf.Tensor:
        return self.user_tower.query_embeddings(UserValues(*columns))

    def raw_signature(self) -> dict[str, tf.TensorSpec]:
        """Returns the raw features' tensors: single values [batch], lists, weights [batch, n]."""
        return raw_signature(self._spec)

    def parse_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parses serialized `tf.Example`s [batch]; absent features are unknown or empty."""
        return parse_examples(examples, self.raw_signature())

    def query_embeddings(self, raw: dict[str, tf.Tensor]) -> tf.Tensor:
        """Computes query embeddings of raw features, float [batch, U + R + 1]."""
        return self._traced.embed(*self.feature_ids(raw))

    def candidates(self) -> dict[str, tf.Tensor]:
        """Returns the tags, [n], and their vectors for both stages, float [n, U + R + 1]."""
        vectors = self._get_model().tag_tower.vectors()
        return {s.TAGS: self._tags.value(), **self._tag_embeddings(vectors)}

    def embed_tags(
        self, tags: tf.Tensor, categories: tf.Tensor, vectors: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Embeds any tags for both stages: known tags have their own vectors, others by views.

        Args:
          tags: string [n], tags, normalised like those of the log.
          categories: string [n], categories of the tags, "" where unknown; ignored for known tags.
          vectors: float [n, d], vectors of the view `vectors`, zeros where there is none; needed
            with that view.

        Returns:
          The embeddings that `candidates` returns, for these tags, and `is_known` bool [n].
        """
        ids = self.feature_ids.tag_ids(tags)
        found = self._get_model().tag_tower.embed(ids, tags, categories, vectors)
        return {**self._tag_embeddings(found), s.IS_KNOWN: ids >= 0}

    def _tag_embeddings(self, tags: TagVectors) -> dict[str, tf.Tensor]:
        model = self._get_model()
        embeddings = tags.candidate_embeddings
        if model.training_config.click_objective is None:
            # The click head is untrained and has no embeddings to return.
            return {s.CANDIDATE_EMBEDDINGS: embeddings, s.RANKING_EMBEDDINGS: embeddings}
        clicks = model.click_candidate_embeddings(tags)
        return {
            s.CANDIDATE_EMBEDDINGS: embeddings,
            s.CLICK_EMBEDDINGS: clicks,
            s.RANKING_EMBEDDINGS: mixed(embeddings, clicks, self._click_weight),
        }

    def score_tags(self, query_embeddings: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the scores that retrieval gives to some tags.

        Args:
          query_embeddings: float [batch, U + R + 1], query embeddings.
          tags: string [batch, m], tags to be scored for each user.

        Returns:
          `scores` of the second stage and `multi_class_logits`, float [batch, m]; NaN for a tag
          without a vector.
        """
        ids = self.feature_ids.tag_ids(tags)
        # Vectors of these tags alone: a large table would be copied in every request.
        found = self._get_model().tag_tower.vectors(tf.reshape(tf.maximum(ids, 0), [-1]))
        shape = tf.concat([tf.shape(ids), [query_embeddings.shape[1]]], axis=0)
        vectors = tf.reshape(found.candidate_embeddings, shape)
        logits = tf.einsum("bd,bmd->bm", query_embeddings, vectors)
        logits = tf.where(ids >= 0, logits, tf.constant(float("nan")))
        scores = logits
        if self._click_weight:
            # Each tag is scored as an item of its own.
            clicks = self._traced.score_items(query_embeddings, ids[:, :, tf.newaxis])[
                s.CLICK_LOGITS
            ]
            scores = mixed(logits, clicks, self._click_weight)
        return {s.SCORES: scores, s.MULTI_CLASS_LOGITS: logits}

    def score_items(
        self, query_embeddings: tf.Tensor, item_tags: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Computes the click head's scores of items.

        Args:
          query_embeddings: float [batch, U + R + 1], query embeddings.
          item_tags: string [batch, m, n], tags of m items for each user, padded with "".

        Returns:
          `click_logits` and calibrated `click_probabilities`, float [batch, m]. An item none of
          whose tags has a vector gets the click head's constant.
        """
        return self._traced.score_items(query_embeddings, self.feature_ids.tag_ids(item_tags))

    def score_items_by_table(
        self,
        query_embeddings: tf.Tensor,
        item_tag_rows: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        click_embeddings: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Computes the click head's scores of items from tag vectors that the caller has.

        Args:
          query_embeddings: float [batch, U + R + 1], query embeddings.
          item_tag_rows: int64 [batch, m, n], rows of the tables for the items' tags; -1: none.
          candidate_embeddings: float [num_tags, U + R + 1], table of `candidates`.
          click_embeddings: float [num_tags, U + R + 1], table of `candidates`; needed where a click
            loss was trained.

        Returns:
          The outputs of `score_items`.
        """
        # Tables may be large, and a request names few of their rows: only these are used.
        distinct, places = tf.unique(tf.reshape(tf.maximum(item_tag_rows, 0), [-1]))
        places = tf.reshape(tf.cast(places, tf.int64), tf.shape(item_tag_rows))
        candidates = tf.gather(candidate_embeddings, distinct)
        click_bias = tf.zeros_like(candidates[:, -1])
        if click_embeddings is not None:
            constants = tf.gather(click_embeddings, distinct)[:, -1]
            click_bias = constants - self._get_model().tag_tower.click_offset
        size = self._get_model().model_config.output_dim
        vectors = TagVectors(candidates[:, :size], candidates[:, -1], click_bias)
        ids = tf.where(item_tag_rows >= 0, places, -1)
        return self._score_items(query_embeddings, ids, vectors)

    def _score_items(
        self, query_embeddings: tf.Tensor, ids: tf.Tensor, vectors: TagVectors | None = None
    ) -> dict[str, tf.Tensor]:
        shape = tf.shape(ids, tf.int64)
        logits = self._get_model().click_logits(
            query_embeddings,
            tf.RaggedTensor.from_tensor(tf.reshape(ids, [shape[0], shape[1] * shape[2]])),
            tf.RaggedTensor.from_tensor(tf.fill(shape[:2], shape[2])),
            vectors,
        )
        logits = tf.reshape(logits, shape[:2])
        calibration = self._item_calibration
        probabilities = tf.sigmoid(calibration.slope * logits + calibration.intercept)
        return {s.CLICK_LOGITS: logits, s.CLICK_PROBABILITIES: probabilities}

    def ranking_embeddings(self, tags: tf.Tensor) -> tf.Tensor:
        """Returns the `ranking_embeddings` of tags, string [n]; NaN for an unknown tag."""
        ids = self.feature_ids.tag_ids(tags)
        found = self._get_model().tag_tower.vectors(tf.maximum(ids, 0))
        rows = self._tag_embeddings(found)[s.RANKING_EMBEDDINGS]
        return tf.where((ids >= 0)[:, tf.newaxis], rows, tf.constant(float("nan")))

    def explain_by_embedding(
        self, raw: dict[str, tf.Tensor], embeddings: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Explains the score of one tag for each user.

        Args:
          raw: Raw features of the users.
          embeddings: float [batch, U + R + 1], ranking embedding of each user's tag.

        Returns:
          The outputs that `trainer.contract.signatures.EXPLAIN` lists.
        """

        def score(query_embeddings: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(query_embeddings * tf.gather(embeddings, users), axis=1)

        values = self.feature_ids(raw)
        explanation = explain(self.user_tower, values, score, self._traced.embed)
        columns = self.feature_ids.columns(raw)
        return padded_outputs(explanation, values, columns, raw, self._spec)

    def signatures(self) -> dict[str, Any]:
        """The signatures by name, as concrete functions."""
        model, functions = self._get_model(), _SignatureFunctions(self)
        views = model.tag_tower.views
        properties = {
            WITH_CLICK_LOSS: model.training_config.click_objective is not None,
            WITH_TAG_VIEWS: views is not None,
            WITH_VECTOR_VIEW: views is not None and views.vector_dim is not None,
        }
        sizes = {"d": model.query_dim}
        if views is not None and views.vector_dim is not None:
            sizes["v"] = views.vector_dim
        maker = SignatureMaker(
            Export.TOWERS,
            self.raw_signature(),
            sizes,
            frozenset(name for name, is_there in properties.items() if is_there),
        )
        return maker.make(
            {
                s.EMBED_EXAMPLES: functions.embed_examples,
                s.EMBED_USERS: functions.embed_users,
                s.CANDIDATES: functions.candidates,
                s.SCORE_TAGS: functions.score_tags,
                s.SCORE_TAGS_BY_EMBEDDING: functions.score_tags_by_embedding,
                s.SCORE_ITEMS: functions.score_items,
                s.SCORE_ITEMS_BY_EMBEDDING: functions.score_items_by_embedding,
                s.SCORE_ITEMS_BY_TABLE: functions.score_items_by_table,
                s.EXPLAIN: functions.explain_tags,
                s.EXPLAIN_BY_EMBEDDING: functions.explain_by_embedding,
                s.EMBED_TAGS: functions.embed_tags,
            }
        )


class _SignatureFunctions:
    """What the signatures compute, each from its inputs by name."""

    def __init__(self, towers: SavedTowers):
        """Initializes with the towers; nothing is traced here."""
        self._towers = towers
        # Traced once for all: the user tower is most of a graph, and what is saved is loaded often.
        self._embed = tf.function(
            towers.query_embeddings, input_signature=[towers.raw_signature()], autograph=False
        )
        # Traced once for both: it is the largest graph of all.
        self._explain = tf.function(towers.explain_by_embedding, autograph=False)

    def embed_examples(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = self._towers.parse_examples(inputs[s.EXAMPLES])
        return {s.QUERY_EMBEDDINGS: self._embed(raw)}

    def embed_users(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {s.QUERY_EMBEDDINGS: self._embed(inputs)}

    def candidates(self) -> dict[str, tf.Tensor]:
        return self._towers.candidates()

    def score_tags(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        tags = inputs.pop(s.CANDIDATE_TAGS)
        return self._towers.score_tags(self._embed(inputs), tags)

    def score_tags_by_embedding(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._towers.score_tags(inputs[s.QUERY_EMBEDDINGS], inputs[s.CANDIDATE_TAGS])

    def score_items(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        item_tags = inputs.pop(s.ITEM_TAGS)
        return self._towers.score_items(self._embed(inputs), item_tags)

    def score_items_by_embedding(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._towers.score_items(inputs[s.QUERY_EMBEDDINGS], inputs[s.ITEM_TAGS])

    def score_items_by_table(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._towers.score_items_by_table(
            inputs[s.QUERY_EMBEDDINGS],
            inputs[s.ITEM_TAG_ROWS],
            inputs[s.CANDIDATE_EMBEDDINGS],
            inputs.get(s.CLICK_EMBEDDINGS),
        )

    def explain_by_embedding(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        embeddings = inputs.pop(s.EXPLAINED_EMBEDDING)
        return self._explain(inputs, embeddings)

    def explain_tags(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        tags = inputs.pop(s.EXPLAINED_TAG)
        return self._explain(inputs, self._towers.ranking_embeddings(tags))

    def embed_tags(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._towers.embed_tags(
            inputs[s.TAGS], inputs[s.TAG_CATEGORIES], inputs.get(s.TAG_VECTORS)
        )


def save_towers(
    model: InterestModel,
    transform_output: tft.TFTransformOutput,
    directory: str,
    click_weight: float = 0.0,
    item_calibration: Calibration | None = None,
) -> None:
    """Saves the towers as a SavedModel.

    Args:
      model: The trained model.
      transform_output: The transform that made the model's examples.
      directory: Folder of the SavedModel.
      click_weight: w, the weight of the second stage.
      item_calibration: Calibration of click probabilities; None: the sigmoid of the logits.
    """
    towers = SavedTowers(model, transform_output, click_weight, item_calibration)
    tf.saved_model.save(towers, directory, signatures=towers.signatures())
