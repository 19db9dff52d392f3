"""Export of the servable: a SavedModel with signatures, warm-up records, description, manifest.

The servable loads in a process that has TensorFlow (and the op library of ScaNN, for a ScaNN
index), but nothing of this project. With an exact index it uses only TensorFlow's own ops, so that
stock TensorFlow Serving, Triton or Java can load it.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from serving.servable.compact_graph import compact_saved_model
from serving.servable.event_features import EventFeatures
from serving.servable.filtered_retrieval import FilteredRetrieval
from serving.servable.retrieval import TagRetrieval
from serving.servable.warmup_records import record_answers, write_warmup_records
from tagtower_client.signature_rows import (
    WITH_CATEGORIES,
    WITH_CLICK_LOSS,
    WITH_DOMAINS,
    WITH_EVENT_WEIGHTS,
    WITH_MEMORY,
    Export,
)
from trainer.contract import signatures as s
from trainer.contract.manifest import write_manifest
from trainer.contract.raw_features import parse_examples
from trainer.contract.signature_specs import SignatureMaker
from trainer.contract.whole_files import write_json

# `tf.saved_model.save` refuses ops that are not TensorFlow's own, unless their namespace is listed.
_OP_NAMESPACES = ("Scann",)


def export_servable(
    module: TagRetrieval,
    directory: str,
    description: Mapping[str, Any],
    warmup_examples: Sequence[bytes] = (),
    event_features: EventFeatures | None = None,
) -> None:
    """Saves a servable into a version folder.

    Args:
      module: Retrieval module, which has the towers and the index.
      directory: Version folder to write; it must not exist.
      description: Description for clients and people, written as JSON to
        `assets.extra/tagtower.json`.
      warmup_examples: Serialized `tf.Example`s of a few users, see `write_warmup_records`.
      event_features: Features of the version from users' events; None: no signature takes events.
    """
    signatures = build_signatures(module, event_features)
    tf.saved_model.save(
        module,
        directory,
        signatures=signatures,
        options=tf.saved_model.SaveOptions(namespace_whitelist=list(_OP_NAMESPACES)),
    )
    compact_saved_model(directory)
    write_warmup_records(directory, signatures, warmup_examples)
    write_json(os.path.join(directory, s.DESCRIPTION_FILE), dict(description), ensure_ascii=False)
    record_answers(directory)
    write_manifest(directory)


def build_signatures(
    module: TagRetrieval, event_features: EventFeatures | None = None
) -> dict[str, Any]:
    """Builds the servable's signatures, by name, as concrete functions.

    The raw features are read from the towers' own signature, so that a servable takes exactly the
    features with which its towers were trained.

    Args:
      module: Retrieval module.
      event_features: Features of the version from users' events; None: no signature takes events.

    Returns:
      Concrete functions by name of the signature.
    """
    towers = module.towers.signatures
    served = _SignatureFunctions(module)
    dimension = towers[s.EMBED_USERS].structured_outputs[s.QUERY_EMBEDDINGS].shape[-1]
    domains = event_features.spec.domains if event_features is not None else ()
    properties = {
        WITH_CLICK_LOSS: s.CLICK_EMBEDDINGS in towers[s.CANDIDATES].structured_outputs,
        WITH_MEMORY: module.memory is not None,
        WITH_DOMAINS: bool(domains),
        WITH_CATEGORIES: any(domain.attribute == "category" for domain in domains),
        WITH_EVENT_WEIGHTS: any(domain.weighting == "recency" for domain in domains),
    }
    maker = SignatureMaker(
        Export.SERVABLE,
        towers[s.EMBED_USERS].structured_input_signature[1],
        {"d": dimension},
        frozenset(name for name, is_there in properties.items() if is_there),
    )
    functions = {
        s.SERVING_DEFAULT: served.serve_examples,
        s.RETRIEVE: served.retrieve,
        s.RETRIEVE_FILTERED: served.retrieve_filtered,
        s.RETRIEVE_BY_EMBEDDING: served.retrieve_by_embedding,
        s.RETRIEVE_CANDIDATES: served.retrieve_candidates,
        s.EMBED_USERS: served.embed_users,
        s.EMBED_EXAMPLES: served.embed_examples,
        s.CANDIDATES: served.candidates,
        s.SCORE_TAGS: served.score_tags,
        s.SIMILAR_TAGS: served.similar_tags,
        s.SCORE_ITEMS: served.score_items,
    }
    if s.EXPLAIN in towers:  # not those of older versions
        functions[s.EXPLAIN] = served.explain
    if event_features is not None:
        functions |= served.of_events(event_features)
    return maker.make(functions)


class _SignatureFunctions:
    """What the signatures compute, each from its inputs by name."""

    def __init__(self, module: TagRetrieval):
        """Initializes with towers and index."""
        self._module = module
        self._filtered = FilteredRetrieval(module)
        self._raw = module.towers.signatures[s.EMBED_USERS].structured_input_signature[1]
        # Traced once for both signatures: what is saved is loaded often.
        self._retrieve = tf.function(self._search, autograph=False)

    def _search(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        module = self._module
        return module.search(module.embed_users(raw), module.read_history(raw))

    def serve_examples(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._retrieve(parse_examples(inputs[s.EXAMPLES], self._raw))

    def retrieve(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._retrieve(inputs)

    def of_events(self, features: EventFeatures) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """Returns the functions of the signatures that take events, by name."""
        return {
            s.RETRIEVE_EVENTS: lambda **inputs: self._retrieve(features.of_lists(inputs)),
            s.RETRIEVE_EVENTS_FLAT: lambda **inputs: self._retrieve(features.of_flat(inputs)),
            s.EVENT_FEATURES: lambda **inputs: features.of_lists(inputs),
            s.EVENT_FEATURES_FLAT: lambda **inputs: features.of_flat(inputs),
        }

    def retrieve_filtered(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        excluded, allowed = (inputs.pop(name) for name in (s.EXCLUDE_TAGS, s.ALLOW_CATEGORIES))
        history = self._module.read_history(inputs)
        queries = self._module.embed_users(inputs)
        return self._filtered.search(queries, excluded, allowed, history)

    def retrieve_by_embedding(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._module.search(inputs[s.QUERY_EMBEDDINGS])

    def retrieve_candidates(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._module.search_candidates(inputs[s.QUERY_EMBEDDINGS])

    def embed_users(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {s.QUERY_EMBEDDINGS: self._module.embed_users(inputs)}

    def embed_examples(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {s.QUERY_EMBEDDINGS: self._module.embed_examples(inputs[s.EXAMPLES])}

    def candidates(self) -> dict[str, tf.Tensor]:
        return self._module.candidates()

    def score_tags(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        module, tags = self._module, inputs.pop(s.CANDIDATE_TAGS)
        return module.score_tags(module.embed_users(inputs), tags, module.read_history(inputs))

    def similar_tags(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._module.tag_neighbours.search(inputs[s.SIMILAR_TO])

    def score_items(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._module.towers.signatures[s.SCORE_ITEMS](**inputs)

    def explain(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._module.explain(inputs)
