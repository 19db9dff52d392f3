"""Recall and latency of a servable, measured from its saved files in a process of its own.

    python -m serving.index.evaluation --servable DIR --examples GLOB --output FILE

A builder that measures its own index measures it before it is saved; this module measures what a
server will load. Queries are user vectors, never tag vectors: queries drawn from the indexed
vectors overestimate the recall of an index.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from serving.index.top_k import BruteForceIndex, recall
from serving.index.tuning import queries_per_second, search_all, seconds
from trainer.contract import signatures as s
from trainer.contract.batches import batched
from trainer.contract.config_loader import require
from trainer.contract.file_system import matching
from trainer.contract.whole_files import write_json

_BATCH = 256
_TIMED_CALLS = 200


@dataclasses.dataclass(frozen=True)
class IndexFigures:
    """The measured recall and speed of an index.

    Attributes:
      num_tags: Number of tags in the index.
      k: Number of tags returned per user, and the k of the recall.
      num_queries: Number of users.
      recall: Share of the exact top k by the multi-class logit that is among the first k candidates
        of the first stage, mean over users.
      latency_ms_p50_batch_1: Median milliseconds of a search with one query vector, in this
        process.
      queries_per_second_batch_64: Query vectors searched per second in batches of 64, in this
        process.
    """

    num_tags: int
    k: int
    num_queries: int
    recall: float
    latency_ms_p50_batch_1: float
    queries_per_second_batch_64: float


def read_serialized(patterns: Sequence[str]) -> list[bytes]:
    """Reads serialized examples from gzipped TFRecord files, in order of file names.

    Args:
      patterns: Globs of the files.

    Returns:
      The serialized examples.

    Raises:
      ValueError: No file matches.
    """
    files = sorted(path for pattern in patterns for path in matching(pattern))
    require(bool(files), "examples", "match at least one file", list(patterns))
    return list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())


def embed(signature: Callable[..., Any], examples: Sequence[bytes]) -> np.ndarray:
    """Computes query vectors float32 [num_examples, dimension] by `embed_examples`, in batches."""
    parts = [
        signature(**{s.EXAMPLES: tf.constant(batch)})[s.QUERY_EMBEDDINGS].numpy()
        for batch in batched(examples, _BATCH)
    ]
    return np.concatenate(parts)


def evaluate_servable(servable: str, patterns: Sequence[str]) -> IndexFigures:
    """Measures the index of a saved servable.

    Args:
      servable: Folder of the version.
      patterns: Globs of files with raw examples of users.

    Returns:
      The measured recall and speed.
    """
    loaded = tf.saved_model.load(servable)
    candidates = loaded.signatures[s.CANDIDATES]()
    position = {tag: i for i, tag in enumerate(candidates[s.TAGS].numpy())}
    vectors = candidates[s.CANDIDATE_EMBEDDINGS].numpy()
    queries = embed(loaded.signatures[s.EMBED_EXAMPLES], read_serialized(patterns))
    retrieve = loaded.signatures[s.RETRIEVE_BY_EMBEDDING]

    propose = loaded.signatures[s.RETRIEVE_CANDIDATES]

    def search(batch: tf.Tensor) -> tf.Tensor:
        return retrieve(**{s.QUERY_EMBEDDINGS: batch})[s.TAGS]

    k = search(tf.constant(queries[:1])).shape[1]
    # `retrieve` may order its tags by another score; the index is measured by the first stage.
    tags = search_all(lambda batch: propose(**{s.QUERY_EMBEDDINGS: batch})[s.TAGS][:, :k], queries)
    # A place that the index could not fill has the tag "", and no position.
    found = np.array([[position.get(tag, -1) for tag in row] for row in tags])
    exact_index = BruteForceIndex(vectors)
    exact = search_all(lambda batch: exact_index.search(batch, k)[1], queries)
    one = tf.constant(queries[:1])
    search(one)
    return IndexFigures(
        num_tags=len(vectors),
        k=k,
        num_queries=len(queries),
        recall=recall(found, exact),
        latency_ms_p50_batch_1=1000
        * float(np.median([seconds(search, one) for _ in range(_TIMED_CALLS)])),
        queries_per_second_batch_64=queries_per_second(search, queries),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures each part's users and writes one JSON file: `{part: figures}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servable", required=True)
    parser.add_argument("--examples", required=True, action="append", metavar="PART=GLOB")
    parser.add_argument("--output", required=True)
    parsed = parser.parse_args(arguments)
    figures = {}
    for entry in parsed.examples:
        part, _, pattern = entry.partition("=")
        figures[part] = dataclasses.asdict(evaluate_servable(parsed.servable, [pattern]))
    write_json(parsed.output, figures)
    return 0


if __name__ == "__main__":
    from serving.index.scann_index import register_scann_ops

    register_scann_ops()
    sys.exit(main())
