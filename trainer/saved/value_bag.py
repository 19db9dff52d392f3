"""The tower `bag` in the served graph: all lists in one computation.

It equals `trainer.towers.bag_of_values.BagOfValues`, which training uses.
"""

import numpy as np
import tensorflow as tf

from trainer.contract.features import Domain
from trainer.saved.pooled_fields import first_rows, stacked_variable
from trainer.saved.user_values import Segments, UserValues, weighted_rows
from trainer.towers.bag_of_values import BagOfValues


class ValueBag(tf.Module):
    """Computes the hidden layer of a trained bag.

    Args:
      bag: The layer of the training.
    """

    def __init__(self, bag: BagOfValues):
        super().__init__(name="value_bag")
        spec, config = bag.spec, bag.config
        rows = {name: table.variable.numpy() for name, table in bag.embedding_tables.items()}
        self._bias = tf.constant(bag.bias.numpy())
        self._num_lists = len(spec.lists)
        self._use_weights = config.use_domain_weights
        self._first_domain = self._num_lists - len(spec.domains)
        singles = [rows[feature.name] for feature in spec.singles]
        self._first_single = first_rows(singles)
        shares = [rows[f"{listed.name}_shares"] for listed in spec.lists]
        self._first_share = first_rows(shares)
        # A profile feature that is a list has no logarithms: its rows of them are zeros.
        self._has_logarithms = config.log_count_fields and bool(spec.domains)
        logarithms = [
            rows[f"{listed.name}_log_counts"] if isinstance(listed, Domain) else np.zeros_like(own)
            for listed, own in zip(spec.lists, shares, strict=True)
            if self._has_logarithms
        ]
        self._singles = stacked_variable(singles, "singles")
        self._shares = stacked_variable(shares, "shares")
        self._logarithms = stacked_variable(logarithms, "logarithms")
        self._totals = None
        if config.use_domain_totals and spec.domains:
            totals = [rows[f"{domain.name}_total"] for domain in spec.domains]
            self._totals = tf.constant(np.concatenate(totals))

    def __call__(self, values: UserValues) -> tf.Tensor:
        """Computes the hidden layer of some users, float [batch, D]."""
        parts = []
        if self._singles is not None:
            rows = tf.gather(self._singles, values.singles + self._first_single)
            parts.append(tf.reduce_sum(rows, axis=1))
        if self._shares is not None:
            segments = Segments.of(values, self._num_lists)
            rows = values.ids + tf.gather(self._first_share, values.lists)
            places = tf.stack([values.users, rows], axis=1)
            shares = self.attention(values)
            parts.append(weighted_rows(places, shares, values.num_users, self._shares))
            if self._logarithms is not None:
                counts = tf.math.log1p(self._counts(values))
                parts.append(weighted_rows(places, counts, values.num_users, self._logarithms))
            if self._totals is not None:
                parts.append(tf.matmul(self._lengths(values, segments), self._totals))
        return tf.nn.relu(tf.add_n(parts) + self._bias)

    def attention(self, values: UserValues) -> tf.Tensor:
        """Computes the share w_i / n of each value in its list, float [n]."""
        segments = Segments.of(values, self._num_lists)
        counts = self._counts(values)
        return counts / tf.gather(segments.sum(counts), segments.ids)

    def _counts(self, values: UserValues) -> tf.Tensor:
        return values.weights if self._use_weights else tf.ones_like(values.weights)

    def _lengths(self, values: UserValues, segments: Segments) -> tf.Tensor:
        """Returns log(1 + n) / 5 of each domain, float [batch, D]; without weights n is 1 or 0."""
        totals = segments.sum(self._counts(values))
        if not self._use_weights:
            totals = tf.minimum(totals, 1.0)
        return segments.by_user(tf.math.log1p(totals) / 5.0)[:, self._first_domain :]
