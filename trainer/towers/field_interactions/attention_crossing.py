"""The interaction `utpm`: attention between fields, then feature crossing."""

import tensorflow as tf

from trainer.towers.domain_attention import InterDomainAttention
from trainer.towers.feature_cross import FeatureCross
from trainer.towers.field_interactions.interaction import Interaction


class AttentionCrossing(Interaction):
    """Pools the fields and crosses the scalars of the result (UTPM, doi 10.1145/3340531.3412719).

        x_h = sum_k a_kh f_kh,  z = [norm(w * x); norm(c)],  x = [x_1; ...; x_H]

    with a_kh the inter-domain attention, or, for the paper's comparison of poolings, equal weights
    of all present fields.

    Args:
      cross: Layer that crosses the scalars of x and normalises its own parts.
      attention: Attention between the fields; None: their average.
      queries: float [H, A], query vectors, which the attention within domains shares; needed with
        `attention`.
    """

    def __init__(
        self,
        cross: FeatureCross,
        attention: InterDomainAttention | None = None,
        queries: tf.Variable | None = None,
        **kwargs: object,
    ):
        super().__init__(**kwargs)
        self.cross = cross
        self.inter_attention = attention
        self.queries = queries

    def call(self, fields: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Pools the fields and crosses the scalars.

        Args:
          fields: float [batch, K, H, E], vectors of the fields.
          mask: bool [batch, K], whether the user has the field.
          training: Whether batch normalisation uses the batch's own moments.

        Returns:
          float [batch, n + n (n - 1) / 2] with n = H E, features.
        """
        if self.inter_attention is not None:
            x = self.inter_attention(fields, mask, self.queries)
        else:
            pooled = tf.reduce_sum(_average_weights(fields, mask)[..., tf.newaxis] * fields, axis=1)
            x = tf.reshape(pooled, [-1, fields.shape[2] * fields.shape[3]])
        return self.cross(x, training=training)

    def attention(self, fields: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `fields`: float [batch, K, H], the weight of each field in x."""
        if self.inter_attention is not None:
            return {"fields": self.inter_attention.attention(fields, mask, self.queries)}
        return {"fields": _average_weights(fields, mask)}


def _average_weights(fields: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    present = tf.cast(mask, fields.dtype)
    shares = tf.math.divide_no_nan(present, tf.reduce_sum(present, axis=1, keepdims=True))
    return tf.repeat(shares[:, :, tf.newaxis], fields.shape[2], axis=2)
