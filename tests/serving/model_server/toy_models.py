"""Tiny SavedModels, built as those of the recorded cases: `y = 0.5 * x + version`."""

import os
from collections.abc import Sequence

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

import serving  # noqa: F401  (selects Keras 2 before TensorFlow)


class Toy(tf.Module):
    def __init__(self, version: int):
        super().__init__()
        self.offset = tf.Variable(float(version))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x):
        return {"y": 0.5 * x + self.offset}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="a"),
            tf.TensorSpec([None], tf.string, name="s_bytes"),
        ]
    )
    def two(self, a, s_bytes):
        return {
            "sum": tf.reduce_sum(a, axis=1) + self.offset,
            "n": tf.cast(tf.strings.length(s_bytes), tf.int64),
            "echo_bytes": tf.identity(s_bytes),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="i")])
    def kinds(self, i):
        return {
            "scalar": tf.reduce_sum(i),
            "is_even": i % 2 == 0,
            "text": tf.strings.as_string(i),
            "wide": tf.cast(i, tf.float64) / 3.0,
        }


class Types(tf.Module):
    """Returns its inputs, of every type that JSON can express, and of some others."""

    DATA_TYPES = (
        tf.bool,
        tf.float16,
        tf.float32,
        tf.float64,
        tf.int8,
        tf.int16,
        tf.int32,
        tf.int64,
        tf.uint8,
        tf.uint16,
        tf.uint32,
        tf.uint64,
        tf.string,
        tf.complex64,
    )

    def signatures(self):
        return {data_type.name: self._echo(data_type) for data_type in self.DATA_TYPES} | {
            "slow": self.slow,
            "filled": self.filled,
        }

    def _echo(self, data_type):
        @tf.function(input_signature=[tf.TensorSpec(None, data_type, name="v")])
        def echo(v):
            return {"v": tf.identity(v)}

        return echo

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="steps")])
    def slow(self, steps):
        """Counts to `steps`, one at a time, some microseconds each."""
        return {
            "count": tf.while_loop(
                lambda i: i < steps[0], lambda i: i + 1, [tf.constant(0, tf.int64)]
            )[0][None]
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="rows")])
    def filled(self, rows):
        return {"rows": tf.zeros([tf.reduce_sum(rows), 2])}


class Retriever(tf.Module):
    """Returns its inputs as tags, so that a test sees what reached the model."""

    def __init__(self, version: int):
        super().__init__()
        self.offset = tf.Variable(float(version))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="gender"),
            tf.TensorSpec([None, None], tf.string, name="recent"),
            tf.TensorSpec([None, None], tf.float32, name="recent_weights"),
        ]
    )
    def retrieve(self, gender, recent, recent_weights):
        joined = tf.strings.reduce_join(recent, axis=1, separator="|")
        sums = tf.reduce_sum(recent_weights, axis=1)
        return {"tags": tf.stack([gender, joined], 1), "scores": tf.stack([sums, -sums], 1)}


class WiderRetriever(Retriever):
    """A later version of `Retriever` with one more feature."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="gender"),
            tf.TensorSpec([None], tf.string, name="age"),
        ]
    )
    def retrieve_wider(self, gender, age):
        scores = tf.zeros([tf.shape(gender)[0], 2]) + self.offset
        return {"tags": tf.stack([gender, age], 1), "scores": scores}


class Gated(Toy):
    """A toy that waits for a file when asked to: its warm-up makes a load take long."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def wait(self, path):
        """Polls until the file exists; `PATH.awaited` says that it does."""

        def is_absent(num_looks):
            return tf.equal(tf.size(tf.io.matching_files(path)), 0)

        with tf.control_dependencies([tf.io.write_file(path + ".awaited", "")]):
            num_looks = tf.while_loop(is_absent, lambda n: n + 1, [tf.constant(0)])[0]
        return {"num_looks": num_looks}


def save_gated(directory: str | os.PathLike, version: int, gate: str | os.PathLike) -> None:
    """Saves a version that is loaded once the file `gate` exists."""
    toy = Gated(version)
    signatures = {"serving_default": toy.predict, "wait": toy.wait}
    tf.saved_model.save(toy, os.fspath(directory), signatures=signatures)
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "wait"
    request.inputs["path"].CopyFrom(tf.make_tensor_proto(os.fspath(gate)))
    write_warmup(directory, [request])


def save_toy(directory: str | os.PathLike, version: int) -> None:
    toy = Toy(version)
    signatures = {"serving_default": toy.predict, "two": toy.two, "kinds": toy.kinds}
    tf.saved_model.save(toy, os.fspath(directory), signatures=signatures)


def save_types(directory: str | os.PathLike) -> None:
    types = Types()
    tf.saved_model.save(types, os.fspath(directory), signatures=types.signatures())


def save_retriever(directory: str | os.PathLike, version: int, is_wider: bool = False) -> None:
    module = WiderRetriever(version)
    function = module.retrieve_wider if is_wider else module.retrieve
    tf.saved_model.save(module, os.fspath(directory), signatures={"retrieve": function})


def write_warmup(
    directory: str | os.PathLike, requests: Sequence[predict_pb2.PredictRequest]
) -> None:
    path = os.path.join(directory, "assets.extra", "tf_serving_warmup_requests")
    os.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())
