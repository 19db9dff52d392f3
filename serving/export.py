"""Writes the servable: a SavedModel with named signatures, warm-up records and a description.

It loads in a process that has nothing of this project, where TensorFlow (and for a ScaNN index its
op library) is. The warm-up records make a server without that op library refuse the version when it
loads it, instead of failing every request afterwards.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from serving.retrieval import TagRetrieval
from trainer import signatures as s

# ScaNN's ops are not TensorFlow's own; `tf.saved_model.save` refuses them unless they are named.
_OP_NAMESPACES = ("Scann",)


def export_servable(module: TagRetrieval, directory: str, description: Mapping[str, Any]) -> None:
    """Saves a servable.

    Args:
      module: Towers and index.
      directory: The version folder to write; it must not exist.
      description: Written as JSON to `assets.extra/tagtower.json`, for clients and people.
    """
    signatures = build_signatures(module)
    tf.saved_model.save(
        module,
        directory,
        signatures=signatures,
        options=tf.saved_model.SaveOptions(namespace_whitelist=list(_OP_NAMESPACES)),
    )
    write_warmup_records(directory, signatures)
    with tf.io.gfile.GFile(os.path.join(directory, s.DESCRIPTION_FILE), "w") as file:
        file.write(
            json.dumps(dict(description), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        )


def build_signatures(module: TagRetrieval) -> dict[str, Any]:
    """The servable's signatures by name, as concrete functions.

    The raw features are read off the towers' own signature, so that a servable takes exactly what
    its towers were trained with.
    """
    towers = module.towers.signatures
    raw = towers[s.EMBED_USERS].structured_input_signature[1]
    by_score_tags = towers[s.SCORE_TAGS].structured_input_signature[1]
    by_score_items = towers[s.SCORE_ITEMS].structured_input_signature[1]
    dimension = towers[s.EMBED_USERS].structured_outputs[s.QUERY_EMBEDDINGS].shape[-1]

    def serve_examples(**inputs):
        return module.search(module.embed_examples(inputs[s.EXAMPLES]))

    def retrieve(**inputs):
        return module.search(module.embed_users(inputs))

    def retrieve_by_embedding(**inputs):
        return module.search(inputs[s.QUERY_EMBEDDINGS])

    def retrieve_candidates(**inputs):
        return module.search_candidates(inputs[s.QUERY_EMBEDDINGS])

    def embed_users(**inputs):
        return {s.QUERY_EMBEDDINGS: module.embed_users(inputs)}

    def embed_examples(**inputs):
        return {s.QUERY_EMBEDDINGS: module.embed_examples(inputs[s.EXAMPLES])}

    def candidates():
        return towers[s.CANDIDATES]()

    def score_tags(**inputs):
        tags = inputs.pop(s.CANDIDATE_TAGS)
        return module.score_tags(module.embed_users(inputs), tags)

    def score_items(**inputs):
        return towers[s.SCORE_ITEMS](**inputs)

    def explain(**inputs):
        return towers[s.EXPLAIN](**inputs)

    examples = {s.EXAMPLES: tf.TensorSpec([None], tf.string, s.EXAMPLES)}
    embeddings = {
        s.QUERY_EMBEDDINGS: tf.TensorSpec([None, dimension], tf.float32, s.QUERY_EMBEDDINGS)
    }
    functions = [
        (s.SERVING_DEFAULT, serve_examples, examples),
        (s.RETRIEVE, retrieve, raw),
        (s.RETRIEVE_BY_EMBEDDING, retrieve_by_embedding, embeddings),
        (s.RETRIEVE_CANDIDATES, retrieve_candidates, embeddings),
        (s.EMBED_USERS, embed_users, raw),
        (s.EMBED_EXAMPLES, embed_examples, examples),
        (s.CANDIDATES, candidates, {}),
        (s.SCORE_TAGS, score_tags, by_score_tags),
        (s.SCORE_ITEMS, score_items, by_score_items),
    ]
    if s.EXPLAIN in towers:  # not those of older versions
        functions.append((s.EXPLAIN, explain, towers[s.EXPLAIN].structured_input_signature[1]))
    return {
        name: tf.function(function, autograph=False).get_concrete_function(**inputs)
        for name, function, inputs in functions
    }


def write_warmup_records(directory: str, signatures: Mapping[str, Any]) -> None:
    """Writes one request a signature: a user of whom nothing is known.

    Args:
      directory: The version folder.
      signatures: Concrete functions by name.
    """
    path = os.path.join(directory, s.WARMUP_FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for name, function in signatures.items():
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(signature_name=name)
            )
            for key, spec in function.structured_input_signature[1].items():
                # One user; lists are empty, vectors are zero.
                shape = [1] + [size or 0 for size in spec.shape[1:]]
                request.inputs[key].CopyFrom(tf.make_tensor_proto(tf.zeros(shape, spec.dtype)))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
