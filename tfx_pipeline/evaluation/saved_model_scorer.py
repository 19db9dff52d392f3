"""Scores of a saved model for the protocol's evaluator, computed as they will be served.

The model is used through its signatures, with the raw examples that a server gets, and orders tags
by two stages like its servable, with memory of the same histories; only the misses of an
approximate index are not included. Two models with different vocabularies are compared in one space
of tags, by string.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from serving.index.evaluation import embed, read_serialized
from tfx_pipeline.artifacts.json_files import read_artifact_json
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.config_loader import from_saved
from trainer.contract.list_column import ListValues
from trainer.contract.memory import DomainMemory, Remembered, remember
from trainer.data.snapshots import Snapshots
from trainer.evaluation.calibration import Calibrations, tag_outcomes
from trainer.evaluation.figures import TagScorer
from trainer.evaluation.second_stage import SecondStage, mixed, two_stage_scores
from trainer.task import TRAINING_FILE

_BATCH = 256
# A model ranks tags that it does not know last; the score is finite, so that the order is total.
_UNKNOWN_TAG_SCORE = -1e30


def read_examples(file_patterns: Sequence[str]) -> dict[bytes, bytes]:
    """Reads raw serialized examples by user id; of several of one user the last is kept."""
    records = read_serialized(file_patterns)
    spec = {f.USER_ID: tf.io.FixedLenFeature([], tf.string)}
    examples: dict[bytes, bytes] = {}
    for first in range(0, len(records), _BATCH):
        batch = records[first : first + _BATCH]
        users = tf.io.parse_example(batch, spec)[f.USER_ID].numpy()
        examples.update(zip(users, batch, strict=True))
    return examples


def read_second_stage(towers_dir: str) -> tuple[SecondStage, Calibrations]:
    """Reads the second stage and the calibrations, which were decided after the towers' fit.

    Args:
      towers_dir: Folder of the saved towers, with `training.json`.

    Returns:
      Second stage and calibrations; for towers saved before these existed, no second stage and
      identities.
    """
    training = read_artifact_json(os.path.join(towers_dir, TRAINING_FILE))
    return (
        from_saved(SecondStage, training.get("second_stage"), "second_stage"),
        from_saved(Calibrations, training.get("calibration"), "calibration"),
    )


class SavedModelScorer:
    """Tag scores and click scores of saved towers, for `trainer.evaluation.figures.evaluate`.

    Towers saved before the second stage, or calibrations, existed are served and scored without
    them.

    Attributes:
      second_stage: Second stage that was decided for these towers.
      calibrations: Calibrations of these towers.
      has_click_head: Whether a click loss was trained.
    """

    def __init__(self, towers_dir: str, tags: Sequence[str], examples: dict[bytes, bytes]):
        """Loads the towers and embeds all users once.

        Args:
          towers_dir: Folder of the saved towers, with `training.json`.
          tags: Tags in the order of the evaluation's ids.
          examples: Raw serialized examples by user id.
        """
        self.second_stage, self.calibrations = read_second_stage(towers_dir)
        self._towers = tf.saved_model.load(towers_dir)
        candidates = self._towers.signatures[s.CANDIDATES]()
        own = {tag: i for i, tag in enumerate(candidates[s.TAGS].numpy())}
        positions = np.array([own.get(tag.encode(), -1) for tag in tags])

        def table(name: str) -> np.ndarray:
            return candidates[name].numpy()[np.maximum(positions, 0)]

        self._vectors = table(s.CANDIDATE_EMBEDDINGS)
        self.has_click_head = s.CLICK_EMBEDDINGS in candidates
        self._click_vectors = table(s.CLICK_EMBEDDINGS) if self.has_click_head else None
        # Without a click weight the second stage keeps the order of the first.
        weight = self.second_stage.click_weight
        self._ranking = table(s.RANKING_EMBEDDINGS) if weight else self._vectors
        self._is_unknown = positions < 0
        # The index of a model never proposes a tag that the model does not know.
        num_known = int(np.sum(~self._is_unknown))
        self._num_candidates = self.second_stage.candidates_among(num_known)
        self._tags = np.array([*(tag.encode() for tag in tags), b""], object)
        users = list(examples)
        self._row = {user: i for i, user in enumerate(users)}
        embed_examples = self._towers.signatures[s.EMBED_EXAMPLES]
        self._queries = embed(embed_examples, [examples[user] for user in users])
        # Memory ignores tags of a history that the model does not know.
        ids = {tag.encode(): i for i, tag in enumerate(tags) if positions[i] >= 0}
        memory = self.second_stage.memory
        self._histories = _histories([examples[user] for user in users], memory, ids)

    def score_tags(self, chunk: Snapshots) -> np.ndarray:
        """Returns the scores of every tag, ordered as served, float [chunk, num_tags]."""
        return self._two_stages(chunk, self._ranking, self._remembered(chunk))

    def stage_scorer(self, click_weight: float) -> TagScorer:
        """Returns a scorer like `score_tags` with another w in the second stage and without memory.

        Args:
          click_weight: Weight w of the click score; unless it is 0, the towers need a click head.

        Returns:
          The scorer of a chunk of snapshots.
        """
        ranking = self._vectors
        if click_weight:
            ranking = mixed(self._vectors, self._click_vectors, click_weight)
        return lambda chunk: self._two_stages(chunk, ranking, None)

    def _two_stages(
        self, chunk: Snapshots, ranking: np.ndarray, remembered: Remembered | None
    ) -> np.ndarray:
        multi_class = self._multi_class(chunk)
        is_first_stage = ranking is self._vectors and remembered is None
        if is_first_stage or not self._num_candidates:
            return multi_class
        queries = self._chunk_queries(chunk)
        return two_stage_scores(multi_class, queries, ranking, self._num_candidates, remembered)

    def _remembered(self, chunk: Snapshots) -> Remembered | None:
        memory = self.second_stage.memory
        if not memory:
            return None
        rows = np.array([self._row[user] for user in chunk.scalars[f.USER_ID]], np.int64)
        lists = {name: column.take(rows) for name, column in self._histories.items()}
        return remember(memory, lists, len(self._vectors))

    def _multi_class(self, chunk: Snapshots) -> np.ndarray:
        logits = self._chunk_queries(chunk) @ self._vectors.T
        logits[:, self._is_unknown] = _UNKNOWN_TAG_SCORE
        return logits

    def tag_outcomes(self, chunk: Snapshots) -> tuple[np.ndarray, np.ndarray]:
        """Returns log shares of every user's candidates, and whether they are clicked, [num_pairs].

        See `trainer.evaluation.calibration.tag_outcomes`.
        """
        return tag_outcomes(
            self._multi_class(chunk), chunk, self._num_candidates, self._remembered(chunk)
        )

    def score_impressions(self, chunk: Snapshots) -> tuple[np.ndarray, np.ndarray]:
        """Returns click logits and served probabilities of the impressions, [num_impressions]."""
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
        # Position -1 selects the last entry of the tags, "".
        outputs = self._towers.signatures[s.SCORE_ITEMS_BY_EMBEDDING](
            **{
                s.QUERY_EMBEDDINGS: tf.constant(queries),
                s.ITEM_TAGS: tf.constant(self._tags[padded]),
            }
        )
        return (
            outputs[s.CLICK_LOGITS].numpy()[user, place],
            outputs[s.CLICK_PROBABILITIES].numpy()[user, place],
        )

    def _chunk_queries(self, chunk: Snapshots) -> np.ndarray:
        return self._queries[[self._row[user] for user in chunk.scalars[f.USER_ID]]]


def _histories(
    examples: Sequence[bytes], memory: Sequence[DomainMemory], ids: Mapping[bytes, int]
) -> dict[str, ListValues]:
    """Returns the input of memory by name: tag ids, -1 if unknown, and weights."""
    features = [name for part in memory for name in (part.domain, f.weights_name(part.domain))]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in features}
    lengths: dict[str, list[np.ndarray]] = {name: [] for name in features}
    for first in range(0, len(examples) if memory else 0, _BATCH):
        batch = examples[first : first + _BATCH]
        columns = {}
        for part in memory:
            columns[part.domain] = tf.io.RaggedFeature(tf.string)
            columns[f.weights_name(part.domain)] = tf.io.RaggedFeature(tf.float32)
        parsed = tf.io.parse_example(batch, columns)
        for name in features:
            parts[name].append(parsed[name].flat_values.numpy())
            lengths[name].append(parsed[name].row_lengths().numpy())
    found = {}
    for name in features:
        values = np.concatenate(parts[name])
        if values.dtype == object:
            values = np.array([ids.get(value, -1) for value in values], np.int64)
        found[name] = ListValues(values, np.cumsum(np.r_[0, np.concatenate(lengths[name])]))
    return found
