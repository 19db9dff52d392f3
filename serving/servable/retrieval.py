"""The servable module: user tower and index, composed to find the tags that interest a user.

There are two stages: the index proposes the N tags with the highest multi-class logit, and the k
best of them by the ranking score are returned. The ranking score may mix that logit with the click
head's (`trainer.evaluation.second_stage` chooses how).

The towers are a loaded SavedModel and are called by their signatures; the model's code is not
needed here, so any towers with these signatures can be served.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from serving.index.top_k import NOT_FOUND, TopKIndex
from serving.servable.candidates import Candidates, columns
from serving.servable.memory_explanations import explain_with_memory
from serving.servable.tag_filter import TagFilter
from serving.servable.tag_memory import History, TagMemory, log_mixture, shares_of, unite
from serving.servable.tag_neighbours import TagNeighbours
from serving.servable.traced_parts import TracedOnce, state_of
from trainer.contract import signatures as s
from trainer.contract.config_loader import require
from trainer.contract.features import weights_name
from trainer.contract.memory import DomainMemory


class TagRetrieval(tf.Module):
    """Retrieval of tags: towers, index, tags and second stage.

    An approximate index only proposes candidates: their scores are computed anew from the tag
    vectors, and the results are ordered by these scores.
    """

    def __init__(
        self,
        towers: Any,
        index: TopKIndex,
        k: int,
        *,
        num_candidates: int | None = None,
        tag_slope: float = 1.0,
        tag_intercept: float = 0.0,
        tag_categories: Sequence[str] | None = None,
        served_rows: np.ndarray | None = None,
        min_probability: float = 0.0,
        memory: Sequence[DomainMemory] = (),
        name: str | None = None,
    ):
        """Composes the module from its parts.

        Args:
          towers: Loaded SavedModel with the signatures of `trainer.contract.signatures`.
          index: Index over the rows of `candidate_embeddings`, or over the served rows of them.
          k: Number of tags returned for a user; if there are fewer tags, all are returned.
          num_candidates: N, number of tags that the index proposes, from k to all; None: k.
          tag_slope: Slope a of `sigmoid(a * log p + b)`, the probability of a click on a tag; p is
            the tag's share in the softmax over the candidates, with memory in the mixture.
          tag_intercept: Intercept b of the same formula.
          tag_categories: Category of each served tag, "" if it has none; None: no tag has one.
          served_rows: int [num_served], rows of the towers' candidates that are served, ascending;
            other tags are never retrieved; None: all rows.
          min_probability: Probability below which a tag is not retrieved, so that its place stays
            empty; `search_candidates`, the first stage alone, ignores it.
          memory: Domains whose tags are remembered; empty: no memory, and scores are logits.
          name: Name of the module.

        Raises:
          ValueError: `k`, `num_candidates`, `tag_slope` or `min_probability` is out of range.
        """
        super().__init__(name=name)
        _check_numbers(k, tag_slope, min_probability)
        self._served_rows: tf.Variable | None = None
        if served_rows is not None:
            self._served_rows = tf.Variable(np.asarray(served_rows, np.int32), trainable=False)
        self._min_probability = min_probability
        # The towers are kept behind a function and only what they read is tracked: otherwise
        # TensorFlow would save every signature of the towers beside those of the servable.
        self._get_towers = lambda: towers
        self._tower_state = state_of(towers)
        self.index = index
        self._add_tables(tag_categories)
        self._tag_slope, self._tag_intercept = tag_slope, tag_intercept
        self.memory = TagMemory(memory) if memory else None
        self.num_tags = int(self._tags.shape[0])
        self.k = min(k, self.num_tags)
        self.num_candidates = self.k if num_candidates is None else num_candidates
        _check_candidates(self.num_candidates, self.k, self.num_tags)
        self.tag_neighbours = TagNeighbours(self._tags, self._embeddings, self.tag_filter, self.k)
        self._traced = TracedOnce(
            read_history=tf.function(self._read_history, autograph=False),
            propose=tf.function(self._propose, autograph=False),
            rank=tf.function(self._rank, autograph=False),
        )

    def _add_tables(self, tag_categories: Sequence[str] | None) -> None:
        tables = self.candidates()
        embeddings, ranking = tables[s.CANDIDATE_EMBEDDINGS], tables[s.RANKING_EMBEDDINGS]
        self.tag_filter = TagFilter(np.array(tables[s.TAGS]), tag_categories)
        self._tags = tf.Variable(tables[s.TAGS], trainable=False, name="tags")
        self._embeddings = tf.Variable(embeddings, trainable=False, name="candidate_embeddings")
        self._ranking: tf.Variable | None = None
        if not np.array_equal(embeddings, ranking):
            self._ranking = tf.Variable(ranking, trainable=False, name="ranking_embeddings")

    @property
    def towers(self) -> Any:
        """Returns the towers, a loaded SavedModel."""
        return self._get_towers()

    def read_history(self, features: dict[str, tf.Tensor]) -> History | None:
        """Reads the history from raw features, one tensor per feature; None: there is no memory."""
        if self.memory is None:
            return None
        names = [part.domain for part in self.memory.domains]
        names += [weights_name(name) for name in names]
        return History(*self._traced.read_history({name: features[name] for name in names}))

    def _read_history(self, features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        assert self.memory is not None
        return columns(self.memory.read(features, self.tag_filter))

    def search(
        self, query_embeddings: tf.Tensor, history: History | None = None
    ) -> dict[str, tf.Tensor]:
        """Finds the tags that interest a user.

        Args:
          query_embeddings: float32 [batch, dimension], user vectors.
          history: Remembered values of the users' histories; None: no memory, and scores are
            logits.

        Returns:
          `tags` string [batch, k]; `scores` float32 [batch, k], exact scores of the second stage,
          highest first; `probabilities` float32 [batch, k] of a click on the tag in the label
          period. If fewer than k tags were found, the other places have the tag "", the score -inf
          and the probability 0.
        """
        return self.rank(query_embeddings, self.propose(query_embeddings), history)

    def rank(
        self, query_embeddings: tf.Tensor, found: Candidates, history: History | None = None
    ) -> dict[str, tf.Tensor]:
        """Runs the second stage: the outputs of `search` from candidates and history."""
        remembered = None if history is None else columns(history)
        return self._traced.rank(query_embeddings, columns(found), remembered)

    def _rank(
        self,
        query_embeddings: tf.Tensor,
        candidates: tuple[tf.Tensor, ...],
        remembered: tuple[tf.Tensor, ...] | None,
    ) -> dict[str, tf.Tensor]:
        found = Candidates(*candidates)
        if remembered is not None:
            return self._rank_with_memory(query_embeddings, found, History(*remembered))
        if self._min_probability:
            probabilities = self.probabilities(found.logits, found.log_normalizer)
            is_found = found.is_found & (probabilities >= self._min_probability)
            logits = tf.where(is_found, found.logits, tf.constant(float("-inf")))
            found = dataclasses.replace(found, is_found=is_found, logits=logits)
        scores = found.logits
        if self._ranking is not None:
            vectors = tf.gather(self._ranking, found.rows)
            ranking = tf.einsum("bd,bnd->bn", query_embeddings, vectors)
            scores = tf.where(found.is_found, ranking, tf.constant(float("-inf")))
        # Equal scores keep the order of the first stage.
        top, order = tf.math.top_k(scores, k=self.k)
        answer = self._answer(found)
        answer = {n: tf.gather(column, order, batch_dims=1) for n, column in answer.items()}
        return answer | {s.SCORES: top}

    def _rank_with_memory(
        self, query_embeddings: tf.Tensor, found: Candidates, history: History
    ) -> dict[str, tf.Tensor]:
        united = unite(found.rows, found.is_found, history, self.num_tags)
        rows = tf.concat([found.rows, united.rows], axis=1)
        is_found = tf.concat([found.is_found, united.is_found], axis=1)
        shares = tf.concat([united.candidate_shares, united.shares], axis=1)
        vectors = tf.gather(self.candidate_embeddings(), united.rows)
        others = tf.einsum("bd,bnd->bn", query_embeddings, vectors)
        logits = tf.concat([found.logits, others], axis=1)
        own_normalizer = found.log_normalizer[:, :1]
        log_shares = log_mixture(logits - own_normalizer, history.rest, shares)
        if self._min_probability:
            is_found &= self._calibrated(log_shares) >= self._min_probability
        scores = log_shares
        if self._ranking is not None:
            vectors = tf.gather(self._ranking, rows)
            ranking = tf.einsum("bd,bnd->bn", query_embeddings, vectors)
            scores = log_mixture(ranking - found.log_normalizer[:, 1:], history.rest, shares)
        scores = tf.where(is_found, scores, tf.constant(float("-inf")))
        top, order = tf.math.top_k(scores, k=self.k)
        rows, is_found, log_shares = (
            tf.gather(column, order, batch_dims=1) for column in (rows, is_found, log_shares)
        )
        return {
            s.TAGS: tf.where(is_found, tf.gather(self._tags, rows), ""),
            s.PROBABILITIES: tf.where(is_found, self._calibrated(log_shares), 0.0),
            s.SCORES: top,
        }

    def search_candidates(self, query_embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
        """Runs the first stage alone: the outputs of `search` for N tags by multi-class logit."""
        found = self.propose(query_embeddings)
        return self._answer(found) | {s.SCORES: found.logits}

    def propose(self, query_embeddings: tf.Tensor) -> Candidates:
        """Runs the first stage.

        Args:
          query_embeddings: float32 [batch, dimension], user vectors.

        Returns:
          The candidates, highest multi-class logit first.
        """
        return Candidates(*self._traced.propose(query_embeddings))

    def _propose(self, query_embeddings: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits, positions = self.index.search(query_embeddings, self.num_candidates)
        return columns(self.rescored(query_embeddings, logits, positions))

    def rescored(
        self,
        query_embeddings: tf.Tensor,
        logits: tf.Tensor,
        positions: tf.Tensor,
        log_normalizer: tf.Tensor | None = None,
    ) -> Candidates:
        """Turns an answer of the index into candidates with exact logits.

        Args:
          query_embeddings: float32 [batch, dimension], user vectors.
          logits: float32 [batch, n], scores of the index.
          positions: int32 [batch, n], positions that the index found.
          log_normalizer: float32 [batch, `num_normalizers`], log normalizers of the users; None:
            they are computed from these candidates.

        Returns:
          The candidates, highest multi-class logit first.
        """
        is_found = tf.not_equal(positions, NOT_FOUND)
        rows = tf.maximum(positions, 0)
        if not self.index.is_exact:
            vectors = tf.gather(self.candidate_embeddings(), rows)
            exact = tf.einsum("bd,bnd->bn", query_embeddings, vectors)
            exact = tf.where(is_found, exact, tf.constant(float("-inf")))
            logits, order = tf.math.top_k(exact, k=positions.shape[1])
            rows = tf.gather(rows, order, batch_dims=1)
            is_found = tf.gather(is_found, order, batch_dims=1)
        if log_normalizer is None:
            log_normalizer = self.log_normalizer(query_embeddings, rows, logits)
        return Candidates(rows, is_found, logits, log_normalizer)

    def log_normalizer(
        self, query_embeddings: tf.Tensor, rows: tf.Tensor, logits: tf.Tensor
    ) -> tf.Tensor:
        """Computes the log normalizers, which turn candidates' logits into log shares.

        Args:
          query_embeddings: float32 [batch, dimension], user vectors.
          rows: int32 [batch, N], rows of the candidates.
          logits: float32 [batch, N], multi-class logits; -inf where nothing was found.

        Returns:
          Log normalizers, float32 [batch, `num_normalizers`].
        """
        normalizer = tf.reduce_logsumexp(logits, axis=1, keepdims=True)
        if self.num_normalizers == 1 or self._ranking is None:
            return normalizer
        none = tf.constant(float("-inf"))
        vectors = tf.gather(self._ranking, rows)
        ranking = tf.einsum("bd,bnd->bn", query_embeddings, vectors)
        ranking = tf.where(logits > none, ranking, none)
        return tf.concat([normalizer, tf.reduce_logsumexp(ranking, axis=1, keepdims=True)], axis=1)

    @property
    def num_normalizers(self) -> int:
        """Returns the number of normalizers per user: 2 if memory needs shares of the ranking."""
        return 2 if self.memory and self._ranking is not None else 1

    def candidates(self) -> dict[str, tf.Tensor]:
        """Returns the towers' tables of the served tags, see `signatures.CANDIDATES`."""
        tables = self.towers.signatures[s.CANDIDATES]()
        if self._served_rows is None:
            return tables
        return {name: tf.gather(table, self._served_rows) for name, table in tables.items()}

    def candidate_embeddings(self) -> tf.Tensor:
        """Returns the tag vectors of the first stage, float32 [num_tags, dimension].

        Gather rows from this tensor: after one gather from the variable itself TensorFlow copies
        the whole table at every later read.
        """
        return self._embeddings.value()

    def probabilities(self, logits: tf.Tensor, log_normalizer: tf.Tensor) -> tf.Tensor:
        """Computes calibrated probabilities of a click on a tag in the label period.

        Args:
          logits: float32 [batch, m], multi-class logits.
          log_normalizer: float32 [batch, `num_normalizers`], log normalizers of the users.

        Returns:
          Probabilities, float32 [batch, m].
        """
        if self.num_normalizers > 1:
            log_normalizer = log_normalizer[:, :1]
        return self._calibrated(logits - log_normalizer)

    def _calibrated(self, log_shares: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self._tag_slope * log_shares + self._tag_intercept)

    def score_tags(
        self, query_embeddings: tf.Tensor, tags: tf.Tensor, history: History | None = None
    ) -> dict[str, tf.Tensor]:
        """Computes scores and probabilities of given tags, the same as those of `search`.

        Args:
          query_embeddings: float32 [batch, dimension], user vectors.
          tags: string [batch, m], any tags, also those that the index would not propose.
          history: Remembered values of the users' histories; None: no memory.

        Returns:
          `scores` and `probabilities`, float32 [batch, m]; NaN for a tag without a vector.
        """
        scored = self.towers.signatures[s.SCORE_TAGS_BY_EMBEDDING](
            **{s.QUERY_EMBEDDINGS: query_embeddings, s.CANDIDATE_TAGS: tags}
        )
        normalizer = self.propose(query_embeddings).log_normalizer
        if history is None:
            probabilities = self.probabilities(scored[s.MULTI_CLASS_LOGITS], normalizer)
            return {s.SCORES: scored[s.SCORES], s.PROBABILITIES: probabilities}
        shares = shares_of(tags, history)
        log_shares = scored[s.MULTI_CLASS_LOGITS] - normalizer[:, :1]
        scores = scored[s.SCORES] - normalizer[:, -1:]
        return {
            s.SCORES: log_mixture(scores, history.rest, shares),
            s.PROBABILITIES: self._calibrated(log_mixture(log_shares, history.rest, shares)),
        }

    def explain(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Explains why tags have their scores, see `trainer.contract.signatures.EXPLAIN`.

        Args:
          inputs: Raw features and `explained_tag`, by name.

        Returns:
          The towers' explanation; with memory, the explanation of the score with memory.
        """
        explained = self.towers.signatures[s.EXPLAIN](**inputs)
        if self.memory is None:
            return explained
        features = {name: column for name, column in inputs.items() if name != s.EXPLAINED_TAG}
        found = self.propose(self.embed_users(features))
        return explain_with_memory(
            explained,
            features,
            inputs[s.EXPLAINED_TAG],
            found.log_normalizer[:, -1:],
            self.memory.domains,
        )

    def _answer(self, found: Candidates) -> dict[str, tf.Tensor]:
        probabilities = self.probabilities(found.logits, found.log_normalizer)
        return {
            s.TAGS: tf.where(found.is_found, tf.gather(self._tags, found.rows), ""),
            s.PROBABILITIES: tf.where(found.is_found, probabilities, 0.0),
        }

    def embed_users(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Computes query embeddings [batch, dimension] of raw features, one tensor per feature."""
        return self.towers.signatures[s.EMBED_USERS](**features)[s.QUERY_EMBEDDINGS]

    def embed_examples(self, examples: tf.Tensor) -> tf.Tensor:
        """Computes query embeddings [batch, dimension] of serialized `tf.Example`s [batch]."""
        embedded = self.towers.signatures[s.EMBED_EXAMPLES](**{s.EXAMPLES: examples})
        return embedded[s.QUERY_EMBEDDINGS]


def _check_numbers(k: int, tag_slope: float, min_probability: float) -> None:
    require(k >= 1, "k", "be a positive integer", k)
    require(tag_slope > 0, "tag_slope", "be positive", tag_slope)
    require(
        0 <= min_probability < 1, "min_probability", "be at least 0 and below 1", min_probability
    )


def _check_candidates(num_candidates: int, k: int, num_tags: int) -> None:
    demand = f"be between k, {k}, and the number of tags, {num_tags}"
    require(k <= num_candidates <= num_tags, "num_candidates", demand, num_candidates)
