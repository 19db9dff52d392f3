"""Explanations of the score with memory: the towers explain the logit, but the score is log p'.

The towers' contributions are differences r - r_ of the ranking logit, where r_ is the logit without
a value or a feature. Here each contribution becomes

    log p'(r - log Z, history) - log p'(r_ - log Z, history without the value or feature).

Z, the sum over the user's candidates, is kept constant: leaving a value out would change it for all
tags alike, which says nothing about this tag. So a value or feature that is in no remembered
history has nearly the towers' contribution, times the model's share in the mixture.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from serving.servable.tag_memory import log_mixture, mixed_in, value_weights
from trainer.contract import signatures as s
from trainer.contract.memory import DomainMemory

# Total weight of a history, and weight of the explained tag in it, by domain; both are float64 and
# broadcast with each other.
_Weights = Mapping[str, tuple[tf.Tensor, tf.Tensor]]


def explain_with_memory(
    explained: Mapping[str, tf.Tensor],
    features: Mapping[str, tf.Tensor],
    tags: tf.Tensor,
    log_normalizer: tf.Tensor,
    domains: Sequence[DomainMemory],
) -> dict[str, tf.Tensor]:
    """Computes the outputs of `explain` for the score with memory.

    Args:
      explained: Outputs of the towers' `explain`.
      features: Raw features of the same users.
      tags: string [batch], explained tags.
      log_normalizer: float32 [batch, 1], log Z.
      domains: Domains that are remembered.

    Returns:
      The outputs of `explain` for the score with memory, and `memory_contribution`.
    """
    logits = explained[s.SCORE][:, tf.newaxis]
    whole: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
    by_value = {}
    for part in domains:
        weights = value_weights(features, part.domain)
        own = tf.where(
            features[part.domain] == tags[:, tf.newaxis], weights, tf.zeros([], tf.float64)
        )
        by_value[part.domain] = weights, own
        whole[part.domain] = (
            tf.reduce_sum(weights, axis=1, keepdims=True),
            tf.reduce_sum(own, axis=1, keepdims=True),
        )

    def score_without(contributions: tf.Tensor, weights: _Weights) -> tf.Tensor:
        return _score(logits - contributions - log_normalizer, weights, domains)

    score = score_without(tf.zeros_like(logits), whole)
    outputs = dict(explained)
    outputs[s.SCORE] = score[:, 0]
    outputs[s.MEMORY_CONTRIBUTION] = (score - (logits - log_normalizer))[:, 0]
    names = explained[s.FEATURES]
    outputs[s.CONTRIBUTIONS_BY_FEATURE] = score - score_without(
        explained[s.CONTRIBUTIONS_BY_FEATURE],
        {
            name: tuple(
                tf.where(names == name, tf.zeros([], tf.float64), weight) for weight in weights
            )
            for name, weights in whole.items()
        },
    )
    # These include profile features that are lists, which have no weights and are not remembered.
    listed = [name for name in features if s.contributions_of(name) in explained]
    for name in listed:
        lacking = dict(whole)
        if name in whole:
            lacking[name] = tuple(map(_sums_of_others, by_value[name]))
        contributions = score - score_without(explained[s.contributions_of(name)], lacking)
        is_value = tf.not_equal(features[name], "")
        outputs[s.contributions_of(name)] = tf.where(is_value, contributions, 0.0)
    return outputs | _top(outputs, features, listed, tf.shape(explained[s.TOP_VALUES])[1])


def _score(log_shares: tf.Tensor, weights: _Weights, domains: Sequence[DomainMemory]) -> tf.Tensor:
    """Computes log p', float32 [batch, m], from log p of that shape."""
    rest = tf.ones_like(log_shares, tf.float64)
    shares = tf.zeros_like(rest)
    for part in reversed(domains):
        total, own = weights[part.domain]
        by_weight, left = mixed_in(part, total)
        shares += rest * by_weight * own
        rest *= left
    return log_mixture(log_shares, rest, shares)


def _sums_of_others(weights: tf.Tensor) -> tf.Tensor:
    """Returns for each value the sum of the other weights, [batch, n].

    The total minus the value's own weight would lose the others beside a heavy weight.
    """
    before = tf.cumsum(weights, axis=1, exclusive=True)
    return before + tf.cumsum(weights, axis=1, exclusive=True, reverse=True)


def _top(
    outputs: Mapping[str, tf.Tensor],
    features: Mapping[str, tf.Tensor],
    names: Sequence[str],
    num_top: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Returns the values of all lists with the largest absolute contributions."""
    batch = tf.shape(outputs[s.SCORE])[0]
    # Empty places, so that there are `num_top` even if the histories are short.
    nothing = tf.fill([batch, num_top], "")
    columns = {
        s.TOP_DOMAINS: [nothing, *(tf.fill(tf.shape(features[name]), name) for name in names)],
        s.TOP_VALUES: [nothing, *(features[name] for name in names)],
        s.TOP_CONTRIBUTIONS: [
            tf.zeros([batch, num_top]),
            *(outputs[s.contributions_of(name)] for name in names),
        ],
    }
    joined = {name: tf.concat(parts, axis=1) for name, parts in columns.items()}
    sizes = tf.abs(joined[s.TOP_CONTRIBUTIONS])
    is_there = (joined[s.TOP_VALUES] != "") & ~tf.math.is_nan(sizes)
    sizes, order = tf.math.top_k(tf.where(is_there, sizes, -1.0), k=num_top)
    return {
        name: tf.where(
            sizes >= 0, tf.gather(column, order, batch_dims=1), tf.zeros([], column.dtype)
        )
        for name, column in joined.items()
    }
