"""Retrieval among the tags that a caller allows: k of them, or all if fewer are allowed.

There are three searches. Each one runs only for the users for whom the previous one found too few
tags, so that a user's answer does not depend on the rest of the batch:

1. The first search takes the allowed tags among the N candidates of `retrieve`.
2. The wider search runs if the index is approximate and many tags are allowed; it takes more
   candidates and searches more thoroughly. If the rules alone suggest that the first search may
   find too few tags, the wider search replaces it.
3. The exact search takes the N best allowed tags out of all tags whose category is allowed.
"""

import dataclasses

import tensorflow as tf

from serving.index.top_k import NOT_FOUND, trusted_depth
from serving.servable.candidates import Candidates, columns
from serving.servable.retrieval import TagRetrieval
from serving.servable.tag_filter import TagRules
from serving.servable.tag_memory import History
from trainer.contract import signatures as s

# Number of allowed tags up to which an approximate index is not used: so few products are as fast.
EXACT_UP_TO = 10_000
# Candidates of the wider search, as a multiple of N. If N is 2 k, the trusted part of them holds k
# allowed tags even if the best 2 N tags are excluded, or if one category is allowed that has a
# fifth of the tags.
_WIDER = 4
# Share of these candidates that is trusted, from the first one on. If the trusted part has fewer
# than k allowed tags, the exact search follows.
_TRUSTED_OF_WIDER = 0.625


class FilteredRetrieval:
    """Retrieval under the rules of a caller; it has no variables of its own to save."""

    def __init__(self, retrieval: TagRetrieval):
        """Initializes the filtered retrieval.

        Args:
          retrieval: Retrieval module: index, vectors, second stage, and the categories of the tags.
        """
        self._retrieval = retrieval
        self._num_wider = min(_WIDER * retrieval.num_candidates, retrieval.num_tags)
        self._trusted_of_wider = int(_TRUSTED_OF_WIDER * self._num_wider)

    def search(
        self,
        query_embeddings: tf.Tensor,
        exclude_tags: tf.Tensor,
        allow_categories: tf.Tensor,
        history: History | None = None,
    ) -> dict[str, tf.Tensor]:
        """Finds the allowed tags that interest a user.

        The probabilities are those of `retrieve` and `score_tags`: their softmax runs over the
        user's candidates, allowed or not. If the wider search replaced the first one, it runs over
        the candidates of the wider search.

        Args:
          query_embeddings: float32 [batch, dimension], user vectors.
          exclude_tags: string [batch, m], excluded tags, padded with "".
          allow_categories: string [batch, c], allowed categories, padded with ""; a row that holds
            only "" allows all.
          history: Remembered values of the users' histories; their allowed tags are candidates in
            every search; None: no memory.

        Returns:
          The outputs of `TagRetrieval.search`, and `count` int32 [batch], the number of filled
          places: k, or as many tags as are allowed (and reach the minimum probability of the
          policy). Without a rule the outputs are bit for bit those of `TagRetrieval.search`.
        """
        retrieval = self._retrieval
        rules = retrieval.tag_filter.rules(exclude_tags, allow_categories)
        if history is not None:
            rows = tf.maximum(history.rows, 0)
            history = history.only(retrieval.tag_filter.allows(rules, rows))
        depth = retrieval.num_candidates
        is_wide = tf.zeros_like(rules.is_restricted)
        if not retrieval.index.is_exact:
            depth = trusted_depth(retrieval.k, depth)
            is_small = rules.num_allowed <= EXACT_UP_TO
            is_wide = self._leaves_short(rules, depth) & ~is_small
        proposed = self._propose(query_embeddings, is_wide)
        found = self._allowed(proposed, rules)
        answer = retrieval.rank(query_embeddings, found, history)
        is_lacking = rules.is_restricted & self._is_short(found, rules, depth)
        normalizer = proposed.log_normalizer
        if not retrieval.index.is_exact:
            is_lacking |= is_wide | (rules.is_restricted & is_small)
            answer, is_lacking, normalizer = self._search_wider(
                is_lacking & ~is_small,
                is_lacking,
                answer,
                query_embeddings,
                rules,
                normalizer,
                is_wide,
                history,
            )
        answer = self._search_exactly(
            is_lacking, answer, query_embeddings, rules, normalizer, history
        )
        is_filled = tf.not_equal(answer[s.TAGS], "")
        return answer | {s.COUNT: tf.reduce_sum(tf.cast(is_filled, tf.int32), axis=1)}

    def _leaves_short(self, rules: TagRules, depth: int) -> tf.Tensor:
        """Returns whether the best `depth` tags may hold fewer than k allowed ones, bool [batch].

        Only the rules decide; with an allow-list the answer is always true.
        """
        has_list = ~tf.reduce_all(rules.allows_category, axis=1)
        is_excluded = rules.excluded < self._retrieval.num_tags
        num_excluded = tf.reduce_sum(tf.cast(is_excluded, tf.int32), axis=1)
        return has_list | (num_excluded > depth - self._retrieval.k)

    def _propose(self, query_embeddings: tf.Tensor, is_wide: tf.Tensor) -> Candidates:
        """Runs the first stage; returns no candidates if no user of the batch needs it."""

        def propose() -> tuple[tf.Tensor, ...]:
            return columns(self._retrieval.propose(query_embeddings))

        def nothing() -> tuple[tf.Tensor, ...]:
            num_users = tf.shape(query_embeddings)[0]
            shape = [num_users, self._retrieval.num_candidates]
            return (
                tf.zeros(shape, tf.int32),
                tf.zeros(shape, tf.bool),
                tf.fill(shape, float("-inf")),
                tf.zeros([num_users, self._retrieval.num_normalizers]),
            )

        return Candidates(*tf.cond(tf.reduce_all(is_wide), nothing, propose))

    def _allowed(self, found: Candidates, rules: TagRules) -> Candidates:
        """Marks the candidates that are not allowed as not found; all keep their places."""
        is_found = found.is_found & self._retrieval.tag_filter.allows(rules, found.rows)
        logits = tf.where(is_found, found.logits, tf.constant(float("-inf")))
        return dataclasses.replace(found, is_found=is_found, logits=logits)

    def _is_short(self, found: Candidates, rules: TagRules, depth: int) -> tf.Tensor:
        """Returns whether the first `depth` places hold too few candidates, bool [batch].

        Too few are fewer than k and fewer than there are allowed tags.
        """
        num_found = tf.reduce_sum(tf.cast(found.is_found[:, :depth], tf.int32), axis=1)
        return num_found < tf.minimum(self._retrieval.k, rules.num_allowed)

    def _search_wider(
        self,
        is_asked: tf.Tensor,
        is_lacking: tf.Tensor,
        answer: dict[str, tf.Tensor],
        query_embeddings: tf.Tensor,
        rules: TagRules,
        normalizer: tf.Tensor,
        is_wide: tf.Tensor,
        history: History | None,
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Runs the wider search for the users `is_asked`.

        Returns:
          The answer, which users still lack tags, and the normalizers, each of the whole batch.
        """
        retrieval = self._retrieval

        def search() -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
            users = tf.where(is_asked)
            own_rules = rules.take(users[:, 0])
            queries = tf.gather(query_embeddings, users[:, 0])
            logits, positions = retrieval.index.search_wider(queries, self._num_wider)
            is_found = tf.not_equal(positions, NOT_FOUND)
            logits = tf.where(is_found, logits, tf.constant(float("-inf")))
            # The normalizer is a sum over N candidates, as for all other users.
            candidates = logits[:, : retrieval.num_candidates]
            rows = tf.maximum(positions, 0)
            own_normalizer = tf.where(
                tf.gather(is_wide, users),
                retrieval.log_normalizer(queries, rows[:, : retrieval.num_candidates], candidates),
                tf.gather(normalizer, users[:, 0]),
            )
            wide = Candidates(rows, is_found, logits, own_normalizer)
            allowed = self._allowed(wide, own_rules)
            best = _best(allowed, retrieval.num_candidates)
            # Exact logits are computed only for the N best allowed candidates: for all candidates
            # of the wider search they would take as long as the search itself.
            positions = tf.where(best.is_found, best.rows, NOT_FOUND)
            found = retrieval.rescored(queries, best.logits, positions, own_normalizer)
            own_history = None if history is None else history.take(users[:, 0])
            own = retrieval.rank(queries, found, own_history)
            is_short = self._is_short(allowed, own_rules, self._trusted_of_wider)
            return (
                _replaced(answer, users, own),
                tf.tensor_scatter_nd_update(is_lacking, users, is_short),
                tf.tensor_scatter_nd_update(normalizer, users, own_normalizer),
            )

        return tf.cond(tf.reduce_any(is_asked), search, lambda: (answer, is_lacking, normalizer))

    def _search_exactly(
        self,
        is_asked: tf.Tensor,
        answer: dict[str, tf.Tensor],
        query_embeddings: tf.Tensor,
        rules: TagRules,
        normalizer: tf.Tensor,
        history: History | None,
    ) -> dict[str, tf.Tensor]:
        """Runs the exact search for the users `is_asked`; returns the answer of the whole batch."""
        retrieval = self._retrieval

        def search() -> dict[str, tf.Tensor]:
            users = tf.where(is_asked)
            queries = tf.gather(query_embeddings, users[:, 0])
            own_normalizer = tf.gather(normalizer, users[:, 0])
            found = self._exact_candidates(queries, rules.take(users[:, 0]), own_normalizer)
            own_history = None if history is None else history.take(users[:, 0])
            return _replaced(answer, users, retrieval.rank(queries, found, own_history))

        return tf.cond(tf.reduce_any(is_asked), search, lambda: answer)

    def _exact_candidates(
        self, queries: tf.Tensor, rules: TagRules, log_normalizer: tf.Tensor
    ) -> Candidates:
        retrieval, tag_filter = self._retrieval, self._retrieval.tag_filter
        size = retrieval.num_candidates
        rows = tag_filter.rows_of_any(rules)
        num_rows = tf.shape(rows)[0]
        # There must be at least N places.
        rows = tf.pad(rows, [[0, tf.maximum(size - num_rows, 0)]])
        is_real = tf.range(tf.shape(rows)[0]) < num_rows
        vectors = tf.cond(
            num_rows == retrieval.num_tags,
            retrieval.candidate_embeddings,
            lambda: tf.gather(retrieval.candidate_embeddings(), rows),
        )
        logits = tf.matmul(queries, vectors, transpose_b=True)
        none = tf.constant(float("-inf"))
        is_real &= tag_filter.allows_category_of(rules, rows)
        logits = tf.where(is_real, logits, none)
        # Exclusions are only looked up among the best tags.
        num_best = tf.minimum(tf.shape(rows)[0], size + tf.shape(rules.excluded)[1])
        logits, places = tf.math.top_k(logits, num_best)
        rows = tf.gather(rows, places)
        found = Candidates(rows, logits > none, logits, log_normalizer)
        return _best(self._allowed(found, rules), size)


def _best(found: Candidates, size: int) -> Candidates:
    """Returns the candidates with the highest logits; equal ones keep their order."""
    logits, places = tf.math.top_k(found.logits, size)
    return Candidates(
        tf.gather(found.rows, places, batch_dims=1),
        tf.gather(found.is_found, places, batch_dims=1),
        logits,
        found.log_normalizer,
    )


def _replaced(
    answer: dict[str, tf.Tensor], users: tf.Tensor, own: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Replaces the rows of the users int64 [n, 1] in the answer by their own answers."""
    return {
        name: tf.tensor_scatter_nd_update(column, users, own[name])
        for name, column in answer.items()
    }
