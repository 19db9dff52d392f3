"""Saved towers without training: a user's vector is looked up by a profile feature.

A real SavedModel with the signatures of `trainer.signatures`, so index, export, evaluation and push
work on it as on trained towers.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer import signatures as s


class ToyTowers(tf.Module):
    """User `u<i>` has row i of `users`; the tag `t<j>` has row j of `candidates`."""

    def __init__(self, users: np.ndarray, candidates: np.ndarray):
        super().__init__()
        self.users = tf.Variable(users.astype(np.float32))
        self.candidates = tf.Variable(candidates.astype(np.float32))
        self.tags = tf.Variable([f"t{j}" for j in range(len(candidates))])

    def embed(self, names: tf.Tensor) -> tf.Tensor:
        # An unknown user (the warm-up's "") gets the first row.
        digits = tf.strings.regex_replace(names, "^u?$|^u", "0")
        return tf.gather(self.users, tf.strings.to_number(digits, tf.int32))

    def save(self, directory: Path) -> None:
        name = tf.TensorSpec([None], tf.string, "name")
        size = self.candidates.shape[1]
        queries = tf.TensorSpec([None, size], tf.float32, s.QUERY_EMBEDDINGS)
        tags = tf.TensorSpec([None, None], tf.string, s.CANDIDATE_TAGS)
        items = tf.TensorSpec([None, None, None], tf.string, s.ITEM_TAGS)

        def embed_examples(**inputs):
            spec = {"name": tf.io.FixedLenFeature([], tf.string, "")}
            parsed = tf.io.parse_example(inputs[s.EXAMPLES], spec)
            return {s.QUERY_EMBEDDINGS: self.embed(parsed["name"])}

        def click(item_tags):
            logits = tf.cast(tf.shape(item_tags)[2], tf.float32) * tf.ones(tf.shape(item_tags)[:2])
            return {s.CLICK_LOGITS: logits, s.CLICK_PROBABILITIES: tf.sigmoid(logits)}

        functions = {
            s.EMBED_EXAMPLES: (embed_examples, [tf.TensorSpec([None], tf.string, s.EXAMPLES)]),
            s.EMBED_USERS: (lambda **i: {s.QUERY_EMBEDDINGS: self.embed(i["name"])}, [name]),
            s.CANDIDATES: (
                lambda: {
                    s.TAGS: self.tags.value(),
                    s.CANDIDATE_EMBEDDINGS: self.candidates.value(),
                },
                [],
            ),
            s.SCORE_TAGS: (
                lambda **i: {s.SCORES: tf.zeros(tf.shape(i[s.CANDIDATE_TAGS]))},
                [name, tags],
            ),
            s.SCORE_ITEMS: (lambda **i: click(i[s.ITEM_TAGS]), [name, items]),
            s.SCORE_ITEMS_BY_EMBEDDING: (lambda **i: click(i[s.ITEM_TAGS]), [queries, items]),
        }
        signatures = {
            key: tf.function(function).get_concrete_function(**{spec.name: spec for spec in specs})
            for key, (function, specs) in functions.items()
        }
        tf.saved_model.save(self, str(directory), signatures=signatures)


def write_users(path: Path, names: list[str]) -> None:
    """Writes examples of users as the example generator does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for name in names:
            example = tf.train.Example()
            example.features.feature["name"].bytes_list.value.append(name.encode())
            writer.write(example.SerializeToString())
