"""Warm-up records of a servable: requests that a server answers before a version serves.

The first call of a graph is slow, and an op that the process lacks (ScaNN's, in a stock server) is
detected only when the function around it is called: without records a version with such an op
becomes available and then fails every request. With a record of each signature the version is
refused when it loads.

A signature without inputs has no record. There is nothing to warm up, and TensorFlow Serving with
batching refuses a request without inputs, and therefore the version.

Some records hold the answer that the saved files gave at export, as `tagtower serve` computes it.
This project's server compares its answer with that one; TensorFlow Serving ignores it.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from serving.model_server.session.predict import predict
from serving.model_server.session.servable import Servable
from serving.servable.warmup_events import warmup_events
from serving.wire.recorded_answers import RECORDED
from tagtower_client.feature_tensors import FeatureValue, InputSlot, to_tensors
from trainer.contract import signatures as s
from trainer.contract.file_system import make_folders, replace_file

_NUM_TAGS = 4  # number of tags in a request that names tags
# Signatures whose answers are recorded. Together they read every table and vocabulary. Each further
# signature would have to build its graph, a second of processor time and five for `explain`, and
# would read the same tables.
_ANSWERED = (
    s.RETRIEVE,
    s.RETRIEVE_BY_EMBEDDING,
    s.RETRIEVE_CANDIDATES,
    s.SIMILAR_TAGS,
    s.SCORE_ITEMS,
)


def write_warmup_records(
    directory: str, signatures: Mapping[str, Any], examples: Sequence[bytes] = ()
) -> None:
    """Writes for each signature a record of an unknown user and, if given, of a batch of users.

    Args:
      directory: Version folder of the servable.
      signatures: Concrete functions by name.
      examples: Serialized `tf.Example`s of a few users. Only their raw features are kept: user ids
        and labels do not get into the servable.
    """
    users = _user_tensors(signatures, examples) if examples else {}
    path = os.path.join(directory, s.WARMUP_FILE)
    make_folders(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for name, function in signatures.items():
            specs = function.structured_input_signature[1]
            if not specs:
                continue
            nothing = {key: _nothing(spec, 1) for key, spec in specs.items()}
            writer.write(_record(name, nothing | warmup_events(specs, 1, [])))
            if users:
                batch = {
                    key: users.get(key, _nothing(spec, len(examples)))
                    for key, spec in specs.items()
                }
                tags = users[s.SIMILAR_TO].numpy().tolist()
                writer.write(_record(name, batch | warmup_events(specs, len(examples), tags)))


def record_answers(directory: str) -> None:
    """Adds the version's answers, computed from its saved files, to its warm-up records.

    Args:
      directory: Version folder, complete except for its manifest.

    Raises:
      ServingError: The version does not load, or does not answer.
    """
    path = os.path.join(directory, s.WARMUP_FILE)
    servable = Servable(directory)
    try:
        with tf.io.TFRecordWriter(path + ".unfinished") as writer:
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                log = prediction_log_pb2.PredictionLog.FromString(record)
                request = log.predict_log.request
                if request.model_spec.signature_name in _ANSWERED:
                    response = predict(servable, 0, request)
                    response.model_spec.ClearField("version")
                    response.model_spec.version_label = RECORDED
                    log.predict_log.response.CopyFrom(response)
                writer.write(log.SerializeToString())
    finally:
        servable.close()
    replace_file(path + ".unfinished", path)


def _nothing(spec: tf.TensorSpec, num_users: int) -> tf.Tensor:
    """Returns the input of unknown users: lists are empty, vectors are zero, numbers are NaN."""
    if spec.dtype == tf.float32 and spec.shape.rank == 1:
        return tf.fill([num_users], float("nan"))
    return tf.zeros([num_users] + [size or 0 for size in spec.shape[1:]], spec.dtype)


def _record(signature: str, tensors: Mapping[str, Any]) -> bytes:
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(signature_name=signature))
    for key, tensor in tensors.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(tensor))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    ).SerializeToString()


def _user_tensors(signatures: Mapping[str, Any], examples: Sequence[bytes]) -> dict[str, Any]:
    """Returns every input that a signature may have, by name, for the users of `examples`."""
    slots = {
        name: InputSlot(is_text=spec.dtype == tf.string, is_list=spec.shape.rank > 1)
        for name, spec in signatures[s.RETRIEVE].structured_input_signature[1].items()
    }
    features = [_raw_features(example, slots) for example in examples]
    stripped = tf.constant([feature.SerializeToString() for feature in features])
    embedded = signatures[s.EMBED_EXAMPLES](**{s.EXAMPLES: stripped})
    tags = signatures[s.CANDIDATES]()[s.TAGS][:_NUM_TAGS]
    asked = tf.repeat(tags[tf.newaxis], len(examples), axis=0)
    return {
        **to_tensors([_instance(feature, slots) for feature in features], slots),
        s.EXAMPLES: stripped,
        s.QUERY_EMBEDDINGS: embedded[s.QUERY_EMBEDDINGS],
        s.CANDIDATE_TAGS: asked,
        s.EXCLUDE_TAGS: asked,
        s.SIMILAR_TO: tags[: len(examples)],
        # Each tag is an item that has only this tag.
        s.ITEM_TAGS: asked[:, :, tf.newaxis],
    }


def _raw_features(example: bytes, names: Mapping[str, InputSlot]) -> tf.train.Example:
    whole, kept = tf.train.Example.FromString(example), tf.train.Example()
    for name in names:
        if name in whole.features.feature:
            kept.features.feature[name].CopyFrom(whole.features.feature[name])
    return kept


def _instance(example: tf.train.Example, slots: Mapping[str, InputSlot]) -> dict[str, FeatureValue]:
    """Returns the features of an example as a caller would give them."""
    instance: dict[str, FeatureValue] = {}
    for name, feature in example.features.feature.items():
        values: list[Any] = (
            [value.decode() for value in feature.bytes_list.value]
            if slots[name].is_text
            else np.asarray(feature.float_list.value).tolist()
        )
        if slots[name].is_list:
            instance[name] = values
        elif values:
            instance[name] = values[0]
    return instance
