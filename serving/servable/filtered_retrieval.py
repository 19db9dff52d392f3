"""Retrieval among the tags that a caller allows: k of them, or all there are.

Three ways, each only for the users whom the one before leaves short, so that what a user gets does
not depend on the rest of the batch:

1. of the N candidates of `retrieve`, those that are allowed;
2. where the index is approximate and many tags are allowed: a wider and more thorough search, at
   once and without the first way where the rules say that it may well be needed;
3. the N best allowed tags, by exact search over every tag whose category is allowed.
"""

import dataclasses

import tensorflow as tf

from serving.index.top_k import NOT_FOUND, trusted_depth
from serving.servable.retrieval import Candidates, TagRetrieval
from serving.servable.tag_filter import TagRules
from serving.servable.tag_memory import History
from trainer.contract import signatures as s

# Allowed tags up to which an approximate index is not asked: below, a product with each is as fast.
EXACT_UP_TO = 10_000
# Of N, the candidates of the second way. What is relied on of them, where N is 2 k, has k if the
# best two N are excluded, and k of a category with a fifth of the tags.
_WIDER = 4
# Of these, the first that are relied on; where they hold fewer than k allowed, the third way looks.
_TRUSTED_OF_WIDER = 0.625


class FilteredRetrieval:
    """`TagRetrieval` under rules; it has nothing of its own that would have to be saved."""

    def __init__(self, retrieval: TagRetrieval):
        """Initializes.

        Args:
          retrieval: Index, vectors, second stage, and the categories of its tags.
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

        A probability is that of `retrieve` and `score_tags`: its softmax runs over the user's
        candidates, allowed or not (those that the wider search finds, where it alone was asked).

        Args:
          query_embeddings: float32 [batch, dimension].
          exclude_tags: string [batch, m], padded with "".
          allow_categories: string [batch, c], padded with ""; a row of nothing else allows all.
          history: What is remembered, of which the allowed tags are candidates, whichever way is
            taken; None: nothing.

        Returns:
          The outputs of `TagRetrieval.search`, and `count` int32 [batch], the places that are
          filled: k, or as many tags as are allowed (or pass the policy's minimum probability).
          Without a rule they are bit for bit those of `TagRetrieval.search`.
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
        """Whether the first `depth` of all tags may have fewer than k allowed, bool [batch].

        By the rules alone; an allow-list is taken to do so.
        """
        has_list = ~tf.reduce_all(rules.allows_category, axis=1)
        is_excluded = rules.excluded < self._retrieval.num_tags
        num_excluded = tf.reduce_sum(tf.cast(is_excluded, tf.int32), axis=1)
        return has_list | (num_excluded > depth - self._retrieval.k)

    def _propose(self, query_embeddings: tf.Tensor, is_wide: tf.Tensor) -> Candidates:
        """The first stage; nothing where nobody needs it."""
        names = [field.name for field in dataclasses.fields(Candidates)]

        def propose() -> tuple[tf.Tensor, ...]:
            proposed = self._retrieval.propose(query_embeddings)
            return tuple(getattr(proposed, name) for name in names)

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
        """The same candidates in the same places, those that are not allowed as not found."""
        is_found = found.is_found & self._retrieval.tag_filter.allows(rules, found.rows)
        logits = tf.where(is_found, found.logits, tf.constant(float("-inf")))
        return dataclasses.replace(found, is_found=is_found, logits=logits)

    def _is_short(self, found: Candidates, rules: TagRules, depth: int) -> tf.Tensor:
        """Whether fewer than k, and than are allowed, are in the first places, bool [batch]."""
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
        """The second way: the answer, who is still left short, and everybody's normalizer."""
        retrieval = self._retrieval

        def search() -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
            users = tf.where(is_asked)
            own_rules = rules.take(users[:, 0])
            queries = tf.gather(query_embeddings, users[:, 0])
            logits, positions = retrieval.index.search_wider(queries, self._num_wider)
            is_found = tf.not_equal(positions, NOT_FOUND)
            logits = tf.where(is_found, logits, tf.constant(float("-inf")))
            # Of N, as everybody's.
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
            # Exactly only now: of all that the wider search finds it would take as long as that.
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
        """The third way."""
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
        # N places at least.
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
        # Exclusions are looked for among the best alone.
        num_best = tf.minimum(tf.shape(rows)[0], size + tf.shape(rules.excluded)[1])
        logits, places = tf.math.top_k(logits, num_best)
        rows = tf.gather(rows, places)
        found = Candidates(rows, logits > none, logits, log_normalizer)
        return _best(self._allowed(found, rules), size)


def _best(found: Candidates, size: int) -> Candidates:
    """The candidates with the highest logits, equal ones in their order."""
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
    """The answer with the rows of some users, int64 [n, 1], in place of theirs."""
    return {
        name: tf.tensor_scatter_nd_update(column, users, own[name])
        for name, column in answer.items()
    }
