"""Scores of a saved model for the protocol's evaluator: what is judged is what will be served.

The model is used through its signatures, with the raw examples as a server gets them. Two models
with different vocabularies are compared in one space of tags, by string.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from serving.index_evaluation import embed, read_serialized
from trainer import features as f
from trainer import signatures as s
from trainer.snapshots import Snapshots

_BATCH = 256
# A tag that a model does not know is the last thing it would recommend; finite, so that ranking is
# total.
_UNKNOWN_TAG_SCORE = -1e30


def read_examples(file_patterns: Sequence[str]) -> dict[bytes, bytes]:
    """Raw serialized examples by user id; of several of one user the last is kept."""
    records = read_serialized(file_patterns)
    spec = {f.USER_ID: tf.io.FixedLenFeature([], tf.string)}
    examples: dict[bytes, bytes] = {}
    for first in range(0, len(records), _BATCH):
        batch = records[first : first + _BATCH]
        users = tf.io.parse_example(batch, spec)[f.USER_ID].numpy()
        examples.update(zip(users, batch, strict=True))
    return examples


class SavedModelScorer:
    """Tag scores and click scores of saved towers, for `trainer.evaluation.evaluate`."""

    def __init__(self, towers_dir: str, tags: Sequence[str], examples: dict[bytes, bytes]):
        """Loads the towers and embeds all users once.

        Args:
          towers_dir: The saved towers.
          tags: The tags in the order of the evaluation's ids.
          examples: Raw serialized examples by user id.
        """
        self._towers = tf.saved_model.load(towers_dir)
        candidates = self._towers.signatures[s.CANDIDATES]()
        own = {tag: i for i, tag in enumerate(candidates[s.TAGS].numpy())}
        positions = np.array([own.get(tag.encode(), -1) for tag in tags])
        vectors = candidates[s.CANDIDATE_EMBEDDINGS].numpy()
        self._vectors = vectors[np.maximum(positions, 0)]
        self._is_unknown = positions < 0
        self._tags = np.array([*(tag.encode() for tag in tags), b""], object)
        users = list(examples)
        self._row = {user: i for i, user in enumerate(users)}
        embed_examples = self._towers.signatures[s.EMBED_EXAMPLES]
        self._queries = embed(embed_examples, [examples[user] for user in users])

    def score_tags(self, chunk: Snapshots) -> np.ndarray:
        """Scores of every tag, float [chunk, num_tags]."""
        scores = self._chunk_queries(chunk) @ self._vectors.T
        scores[:, self._is_unknown] = _UNKNOWN_TAG_SCORE
        return scores

    def score_impressions(self, chunk: Snapshots) -> np.ndarray:
        """Click logits of the impressions of a chunk, float [num_impressions]."""
        num_tags = chunk.lists[f.IMPRESSION_NUM_TAGS]
        num_items = np.diff(num_tags.offsets)
        user = num_tags.row_ids
        place = np.arange(len(user)) - num_tags.offsets[user]
        ids = chunk.lists[f.IMPRESSION_TAGS].values
        lengths = num_tags.values
        item = np.repeat(np.arange(len(lengths)), lengths)
        inside = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        shape = (chunk.num_examples, max(num_items, default=0), max(lengths, default=0))
        padded = np.full(shape, -1)
        padded[user[item], place[item], inside] = ids
        queries = self._chunk_queries(chunk)
        # -1 picks the last entry of the tags, "".
        score = self._towers.signatures[s.SCORE_ITEMS_BY_EMBEDDING]
        logits = score(
            **{
                s.QUERY_EMBEDDINGS: tf.constant(queries),
                s.ITEM_TAGS: tf.constant(self._tags[padded]),
            }
        )[s.CLICK_LOGITS].numpy()
        return logits[user, place]

    def _chunk_queries(self, chunk: Snapshots) -> np.ndarray:
        return self._queries[[self._row[user] for user in chunk.scalars[f.USER_ID]]]
