"""A tiny SavedModel of serialized examples, as that of the recorded cases, and of lists."""

import os

import tensorflow as tf

import serving  # noqa: F401  (selects Keras 2 before TensorFlow)

_FEATURES = {"x": tf.io.FixedLenFeature([], tf.float32)}


class ToyExamples(tf.Module):
    """`y = 0.5 * x + version` of serialized examples, and sums of lists."""

    def __init__(self, version: int):
        super().__init__()
        self.offset = tf.Variable(float(version))

    def _y(self, examples):
        return 0.5 * tf.io.parse_example(examples, _FEATURES)["x"] + self.offset

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        return {"outputs": self._y(inputs)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress_column(self, inputs):
        return {"outputs": self._y(inputs)[:, None]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        y = self._y(inputs)
        classes = tf.tile(tf.constant([["a", "b"]]), [tf.shape(y)[0], 1])
        return {"classes": classes, "scores": tf.stack([y, 1.0 - y], axis=1)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="tags"),
            tf.TensorSpec([None, None], tf.float32, name="tags_weights"),
        ]
    )
    def lists(self, tags, tags_weights):
        """Counts tags that are not `""`, and adds the weights up, of lists of equal widths."""
        is_tag = tf.cast(tags != "", tf.float32)
        num_rows = tf.fill(tf.shape(tags)[:1], tf.shape(tags)[0])
        return {
            "num_tags": tf.reduce_sum(is_tag, axis=1),
            "sum": tf.reduce_sum(is_tag * tags_weights, axis=1),
            "num_rows": num_rows,
            "width": tf.fill(tf.shape(tags)[:1], tf.shape(tags)[1]),
        }

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="tags")])
    def lengths(self, tags):
        return {
            "lengths": tf.strings.length(tags),
            "num_rows": tf.fill(tf.shape(tags)[:1], tf.shape(tags)[0]),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x):
        return {"total": tf.reduce_sum(x, keepdims=True)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def distinct(self, x):
        return {"values": tf.unique(x).y}


def save_toy_examples(directory: str | os.PathLike, version: int) -> None:
    """Saves a version."""
    toy = ToyExamples(version)
    tf.saved_model.save(
        toy,
        os.fspath(directory),
        signatures={
            "regress_x": toy.regress,
            "regress_column": toy.regress_column,
            "classify_x": toy.classify,
            "lists": toy.lists,
            "lengths": toy.lengths,
            "total": toy.total,
            "distinct": toy.distinct,
        },
    )


def example(x: float) -> bytes:
    """Returns a serialized example."""
    feature = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=[x]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
