"""Softmax over a sample of a large tag vocabulary, drawn by frequency and corrected for it.

All users of a step share one sample, and its tags count once however often they were drawn. A tag
is in the sample with some probability pi, so its logit is corrected by `- log pi`: the softmax over
the label and the sample then has the optimum of the softmax over all tags ("Candidate Sampling
Algorithms Reference", sampled softmax, tensorflow.org/extras; Bengio and Senécal, "Adaptive
importance sampling to accelerate training of a neural probabilistic language model", IEEE
Transactions on Neural Networks 2008). Without the correction the logits of frequent tags, which are
often negatives, would be too low by log pi. The correction is never clipped.

The cost of a step depends on the tags that it names, not on the size of the vocabulary.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from trainer.contract.config_loader import require


class TagSampler:
    """Draws tags with replacement, with probability `q ~ frequency^power`, and keeps each once.

    Args:
      frequencies: float [num_tags], positive frequencies of the tags in order of their ids.
      num_draws: S, number of draws, at least 1.
      power: Power of the frequency, at least 0; 0 draws all tags with equal probability, 1 as they
        occur.

    Raises:
      ValueError: A frequency is not positive (a tag that is never drawn has no correction), or an
        argument is out of range.
    """

    def __init__(self, frequencies: np.ndarray, num_draws: int, power: float = 1.0):
        require(num_draws >= 1, "num_draws", "be a positive integer", num_draws)
        require(power >= 0, "power", "be 0 or positive", power)
        frequencies = np.asarray(frequencies, np.float64)
        is_valid = np.isfinite(frequencies) & (frequencies > 0)
        require(
            frequencies.ndim == 1 and frequencies.size > 0 and bool(is_valid.all()),
            "frequencies",
            "be a positive number for each tag",
            frequencies[~is_valid][:5] if frequencies.ndim == 1 else frequencies.shape,
        )
        self.num_draws = num_draws
        # Divided by the highest first, so that no power of a count overflows.
        unnormalized = (frequencies / frequencies.max()) ** power
        require(unnormalized.min() > 0, "power", "leave every tag a positive probability", power)
        cumulative = np.cumsum(unnormalized)
        # A vocabulary of one tag has q = 1 and log1p(-1) = -inf, which is right: pi = 1.
        with np.errstate(divide="ignore"):
            misses = num_draws * np.log1p(-unnormalized / cumulative[-1])
        # Eager constants: a traced step refers to them, and no graph holds a copy.
        self._cumulative = tf.constant(cumulative / cumulative[-1])
        self._log_inclusion = tf.constant(np.log(-np.expm1(misses)), tf.float32)

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws a sample of tags.

        Args:
          seed: int [2], seed; the same seed gives the same sample, on every replica.

        Returns:
          int64 [m] with 1 <= m <= S, distinct tags.
        """
        draws = tf.random.stateless_uniform([self.num_draws], seed, dtype=tf.float64)
        # Inverse of the distribution function, S log(num_tags) comparisons.
        tags = tf.searchsorted(self._cumulative, draws, side="right", out_type=tf.int64)
        return tf.unique(tags)[0]

    def log_inclusion(self, tags: tf.Tensor) -> tf.Tensor:
        """Returns the logarithm of the probability that a sample contains a tag.

            pi_j = 1 - (1 - q_j)^S = - expm1(S log1p(- q_j))

        Args:
          tags: int [n], ids of tags.

        Returns:
          float [n], logarithms, at most 0.
        """
        return tf.gather(self._log_inclusion, tags)


class SampledSoftmax:
    """The softmax p(t|u) over the label and a sample, with logQ correction; a `losses.Softmax`.

        s'_t = u . t + b_t - log pi_t,   p(t|u) = exp s'_t / sum_{j in {t} + sample} exp s'_j

    Tags are rows of the given tensors, which only need the tags that the batch names.

    Args:
      query_embeddings: float [batch, U], user vectors.
      tag_embeddings: float [n, U], tag vectors.
      tag_bias: float [n], b, biases of the tags.
      log_inclusion: float [n], log pi of the tags.
      sample: int64 [m], distinct rows of the sampled tags.
    """

    is_full = False

    def __init__(
        self,
        query_embeddings: tf.Tensor,
        tag_embeddings: tf.Tensor,
        tag_bias: tf.Tensor,
        log_inclusion: tf.Tensor,
        sample: tf.Tensor,
    ):
        self._query_embeddings = query_embeddings
        self._tag_embeddings = tag_embeddings
        self._bias = tag_bias - log_inclusion
        vectors = tf.gather(tag_embeddings, sample)
        self.logits = tf.matmul(query_embeddings, vectors, transpose_b=True) + tf.gather(
            self._bias, sample
        )
        nowhere = tf.fill(tf.shape(tag_bias, tf.int64), tf.constant(-1, tf.int64))
        self._columns = tf.tensor_scatter_nd_update(
            nowhere, sample[:, tf.newaxis], tf.range(tf.size(sample, tf.int64))
        )

    def label_logits(self, users: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
        """Computes corrected logits of pairs of a user and a tag, both int [m]; float [m]."""
        products = tf.gather(self._query_embeddings, users) * tf.gather(self._tag_embeddings, tags)
        return tf.reduce_sum(products, axis=1) + tf.gather(self._bias, tags)

    def columns(self, tags: tf.Tensor) -> tf.Tensor:
        """Returns places of tags, int [m], in the sample; int64 [m], -1 for a tag not drawn."""
        return tf.gather(self._columns, tags)


def renumber(ids: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Numbers the tags that a batch names, so that only their rows have to be gathered.

    Args:
      ids: int64 [m] by name, ids of tags; -1 for a tag out of vocabulary.

    Returns:
      `distinct` int64 [n], each tag once, and places of the ids in it, int64 [m] by the same names;
      -1 stays -1.
    """
    joined = tf.concat(list(ids.values()), axis=0)
    known = tf.where(joined >= 0)
    distinct, places = tf.unique(tf.gather_nd(joined, known), out_idx=tf.int64)
    unknown = tf.fill(tf.shape(joined), tf.constant(-1, tf.int64))
    rows = tf.tensor_scatter_nd_update(unknown, known, places)
    parts = tf.split(rows, [tf.size(part) for part in ids.values()])
    return distinct, dict(zip(ids, parts, strict=True))
