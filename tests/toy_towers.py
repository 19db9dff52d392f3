"""Saved towers without training: a user's vector is looked up by a profile feature.

A real SavedModel with the signatures of `trainer.contract.signatures`, so index, export, evaluation
and push work on it as on trained towers.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.evaluation.second_stage import mixed


class ToyTowers(tf.Module):
    """User `u<i>` has row i of `users`; the tag `t<j>` has row j of `candidates`.

    With `clicks`, vectors of the tags for the click head, the second stage mixes them in by
    `click_weight`, and the click logit of an item is the sum over its tags; without, it is the
    number of its tags.
    """

    def __init__(
        self,
        users: np.ndarray,
        candidates: np.ndarray,
        clicks: np.ndarray | None = None,
        click_weight: float = 0.0,
        item_slope: float = 1.0,
    ):
        super().__init__()
        self.users = tf.Variable(users.astype(np.float32))
        self.candidates = tf.Variable(candidates.astype(np.float32))
        self.clicks = None if clicks is None else tf.Variable(clicks.astype(np.float32))
        self.click_weight, self.item_slope = click_weight, item_slope
        self.tags = tf.Variable([f"t{j}" for j in range(len(candidates))])

    def embed(self, names: tf.Tensor) -> tf.Tensor:
        # An unknown user (the warm-up's "") gets the first row.
        return tf.gather(self.users, self.numbers(names))

    def numbers(self, names: tf.Tensor) -> tf.Tensor:
        digits = tf.strings.regex_replace(names, "^[ut]?$|^[ut]", "0")
        return tf.strings.to_number(digits, tf.int32)

    def tables(self) -> dict[str, tf.Tensor]:
        candidates = self.candidates.value()
        outputs = {s.TAGS: self.tags.value(), s.CANDIDATE_EMBEDDINGS: candidates}
        if self.clicks is None:
            return outputs | {s.RANKING_EMBEDDINGS: candidates}
        clicks = self.clicks.value()
        ranking = mixed(candidates, clicks, self.click_weight)
        return outputs | {s.CLICK_EMBEDDINGS: clicks, s.RANKING_EMBEDDINGS: ranking}

    def score_tags(self, queries: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        tables, rows = self.tables(), self.numbers(tags)
        return {
            name: tf.einsum("bd,bmd->bm", queries, tf.gather(tables[table], rows))
            for name, table in (
                (s.SCORES, s.RANKING_EMBEDDINGS),
                (s.MULTI_CLASS_LOGITS, s.CANDIDATE_EMBEDDINGS),
            )
        }

    def score_items(self, queries: tf.Tensor, items: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.clicks is None:
            logits = tf.cast(tf.shape(items)[2], tf.float32) * tf.ones(tf.shape(items)[:2])
        else:
            products = tf.einsum(
                "bd,bmnd->bmn", queries, tf.gather(self.clicks, self.numbers(items))
            )
            logits = tf.reduce_sum(tf.where(items == "", 0.0, products), axis=2)
        return {s.CLICK_LOGITS: logits, s.CLICK_PROBABILITIES: tf.sigmoid(self.item_slope * logits)}

    def functions(self) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        """Returns, by name of the signature, the function and its inputs."""
        name = tf.TensorSpec([None], tf.string, "name")
        size = self.candidates.shape[1]
        queries = tf.TensorSpec([None, size], tf.float32, s.QUERY_EMBEDDINGS)
        tags = tf.TensorSpec([None, None], tf.string, s.CANDIDATE_TAGS)
        items = tf.TensorSpec([None, None, None], tf.string, s.ITEM_TAGS)

        def embed_examples(**inputs):
            spec = {"name": tf.io.FixedLenFeature([], tf.string, "")}
            parsed = tf.io.parse_example(inputs[s.EXAMPLES], spec)
            return {s.QUERY_EMBEDDINGS: self.embed(parsed["name"])}

        return {
            s.EMBED_EXAMPLES: (embed_examples, [tf.TensorSpec([None], tf.string, s.EXAMPLES)]),
            s.EMBED_USERS: (lambda **i: {s.QUERY_EMBEDDINGS: self.embed(i["name"])}, [name]),
            s.CANDIDATES: (self.tables, []),
            s.SCORE_TAGS: (
                lambda **i: self.score_tags(self.embed(i["name"]), i[s.CANDIDATE_TAGS]),
                [name, tags],
            ),
            s.SCORE_TAGS_BY_EMBEDDING: (
                lambda **i: self.score_tags(i[s.QUERY_EMBEDDINGS], i[s.CANDIDATE_TAGS]),
                [queries, tags],
            ),
            s.SCORE_ITEMS: (
                lambda **i: self.score_items(self.embed(i["name"]), i[s.ITEM_TAGS]),
                [name, items],
            ),
            s.SCORE_ITEMS_BY_EMBEDDING: (
                lambda **i: self.score_items(i[s.QUERY_EMBEDDINGS], i[s.ITEM_TAGS]),
                [queries, items],
            ),
        }

    def save(self, directory: Path) -> None:
        signatures = {
            key: tf.function(function).get_concrete_function(**{spec.name: spec for spec in specs})
            for key, (function, specs) in self.functions().items()
        }
        tf.saved_model.save(self, str(directory), signatures=signatures)


class OlderToyTowers(ToyTowers):
    """Toy towers as they were saved before there was a second stage."""

    def tables(self) -> dict[str, tf.Tensor]:
        tables = super().tables()
        return {name: tables[name] for name in (s.TAGS, s.CANDIDATE_EMBEDDINGS)}

    def score_tags(self, queries: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        vectors = tf.gather(self.candidates, self.numbers(tags))
        return {s.SCORES: tf.einsum("bd,bmd->bm", queries, vectors)}

    def functions(self) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        functions = super().functions()
        del functions[s.SCORE_TAGS_BY_EMBEDDING]
        return functions


def write_users(path: Path, names: list[str]) -> None:
    """Writes examples of users as the example generator does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for name in names:
            example = tf.train.Example()
            for feature in ("name", f.USER_ID):
                example.features.feature[feature].bytes_list.value.append(name.encode())
            writer.write(example.SerializeToString())
