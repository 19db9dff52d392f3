"""The candidate tower: a vector and the biases of every tag."""

import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig
from trainer.contract.config_loader import require
from trainer.towers.dropout import Dropout
from trainer.towers.tag_views import TagAttributes, TagViews


@dataclasses.dataclass(frozen=True)
class TagVectors:
    """Vectors and biases of some tags, for both heads.

    Attributes:
      embeddings: float [n, U], tag vectors.
      bias: float [n], biases of the multi-class head.
      click_bias: float [n], biases of the click head.
      path: float [n, R], vectors of the linear path, which the multi-class head alone uses; None:
        there is no path.
    """

    embeddings: tf.Tensor
    bias: tf.Tensor
    click_bias: tf.Tensor
    path: tf.Tensor | None = None

    @property
    def candidate_embeddings(self) -> tf.Tensor:
        """Vectors for an index, float [n, U + R + 1]; the last component is the bias."""
        parts = [self.embeddings, self.bias[:, tf.newaxis]]
        if self.path is not None:
            parts.insert(1, self.path)
        return tf.concat(parts, axis=1)


class TagTower(tf_keras.layers.Layer):
    """A table of tag vectors with a bias for each head (candidate tower), and views.

    With `config.tag_views` a tag's vector and biases are `id + views` (see `TagViews`). In training
    the id part is hidden at the rate `config.id_dropout`, so that the views learn to stand alone
    for a tag that has no id (DropoutNet, Volkovs et al., NeurIPS 2017). The other id parts are not
    scaled by 1 / (1 - p): at serving a tag has an id or not, as in training, so both sums occur as
    they were learned, while a scaled id part would be served with weights that it never had.

    Args:
      num_tags: Number of tags.
      config: Configuration of the model.
      seed: Seed of the initial values and of id dropout.
      attributes: Attributes of the tags in order of their ids; needed with `config.tag_views`.

    Raises:
      ValueError: There are no tags, or there are views and not the attributes of every tag.
    """

    def __init__(
        self,
        num_tags: int,
        config: ModelConfig,
        seed: int = 0,
        attributes: TagAttributes | None = None,
        **kwargs: object,
    ):
        super().__init__(**kwargs)
        require(num_tags >= 1, "num_tags", "be a positive integer", num_tags)
        self.num_tags = num_tags
        self.config = config
        self.seed = seed
        # Made here and not in `build`, because the user tower may share the table.
        initializer = tf_keras.initializers.RandomNormal(stddev=config.output_dim**-0.5, seed=seed)
        self.embeddings = self.add_weight(
            "embeddings", [num_tags, config.output_dim], initializer=initializer
        )
        self.bias = self.add_weight("bias", [num_tags], initializer="zeros")
        self.click_bias = self.add_weight("click_bias", [num_tags], initializer="zeros")
        self.click_scale = self.add_weight("click_scale", [], initializer="ones")
        self.click_offset = self.add_weight("click_offset", [], initializer="zeros")
        self.views: TagViews | None = None
        if config.tag_views:
            attributes = attributes or TagAttributes((), ())
            require(
                len(attributes.tags) == num_tags,
                "attributes",
                f"be those of {num_tags} tags where `tag_views` names any",
                len(attributes.tags),
            )
            self.views = TagViews(attributes, config, name="views")
            self._hide_id = Dropout(config.id_dropout, seed=seed)
        self.path: tf.Variable | None = None
        self._frozen: TagVectors | None = None

    def add_path(self, vectors: np.ndarray) -> None:
        """Adds the tags' vectors of the linear path, float [num_tags, R]."""
        self.path = self.add_weight(
            "path",
            vectors.shape,
            initializer=tf_keras.initializers.Constant(vectors),
            trainable=False,
        )

    def vectors(self, ids: tf.Tensor | None = None, training: bool | None = None) -> TagVectors:
        """Returns vectors and biases of tags.

        Args:
          ids: int [n], ids of tags, below the number of tags; None: all tags in order.
          training: Whether id dropout is on. It is drawn by tag: in one call a tag's id is hidden
            wherever it occurs in `ids`, or nowhere.

        Returns:
          Vectors and biases of the n tags. Only their rows are read.
        """
        if self._frozen is not None:
            require(not training, "training", "be false for a frozen tower", training)
            return _gathered(self._frozen, ids)
        by_id = _gathered(TagVectors(self.embeddings, self.bias, self.click_bias, self.path), ids)
        if self.views is None:
            return by_id
        if training and self.config.id_dropout:
            keep = self._keep_id(ids)
            by_id = TagVectors(
                keep[:, tf.newaxis] * by_id.embeddings,
                keep * by_id.bias,
                keep * by_id.click_bias,
                by_id.path,
            )
        views = _split(self.views.rows(ids))
        return TagVectors(
            by_id.embeddings + views.embeddings,
            by_id.bias + views.bias,
            by_id.click_bias + views.click_bias,
            by_id.path,
        )

    def _keep_id(self, ids: tf.Tensor | None) -> tf.Tensor:
        """Draws 1 where the id part is shown and 0 where it is hidden, float [n]."""
        if ids is None:
            return self._draw(self.num_tags)
        distinct, places = tf.unique(ids)
        return tf.gather(self._draw(tf.size(distinct)), places)

    def _draw(self, size: int | tf.Tensor) -> tf.Tensor:
        # Dropout scales the values that it keeps; only their places are used here.
        return tf.cast(self._hide_id(tf.ones([size]), training=True) > 0, tf.float32)

    def embed(
        self,
        ids: tf.Tensor,
        tags: tf.Tensor,
        categories: tf.Tensor,
        vectors: tf.Tensor | None = None,
    ) -> TagVectors:
        """Returns vectors and biases of any tags: known ones as trained, others by views alone.

        Args:
          ids: int [n], ids of tags, below the number of tags; -1: a tag that training never saw.
          tags: string [n], the tags themselves.
          categories: string [n], categories of the tags, "" where unknown.
          vectors: float [n, d], vectors of the view `vectors`, zeros where there is none; needed
            with that view.

        Returns:
          Vectors and biases of the n tags. Without views an unknown tag has zeros.
        """
        known = self.vectors(tf.maximum(ids, 0))
        if self.views is None:
            rows = tf.zeros([tf.size(ids), self.config.output_dim + 2])
        else:
            rows = self.views.embed(tags, categories, vectors)
        unknown, is_known = _split(rows), ids >= 0
        path = known.path
        if path is not None:  # the linear path has vectors of known tags alone
            path = tf.where(is_known[:, tf.newaxis], path, tf.zeros_like(path))
        return TagVectors(
            tf.where(is_known[:, tf.newaxis], known.embeddings, unknown.embeddings),
            tf.where(is_known, known.bias, unknown.bias),
            tf.where(is_known, known.click_bias, unknown.click_bias),
            path,
        )

    def freeze(self) -> None:
        """Computes the known tags' rows once, for saving; afterwards the tower cannot be trained.

        A request then costs no more than without views, and the saved graph contains neither the
        words nor the given vectors of all tags. Without views nothing changes.
        """
        if self.views is None or self._frozen is not None:
            return
        rows = self.vectors()
        columns = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
        self._frozen_rows = {
            name: tf.Variable(column, trainable=False, name=f"frozen_{name}")
            for name, column in columns.items()
            if column is not None
        }
        self._frozen = TagVectors(**self._frozen_rows)

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the vectors of tags.

        Args:
          ids: int [n], ids of tags, below the number of tags.
          training: Whether id dropout is on.

        Returns:
          float [n, U], tag vectors.
        """
        return self.vectors(ids, training=training).embeddings

    def candidate_embeddings(self) -> tf.Tensor:
        """Returns the vectors of all tags, float [num_tags, U + R + 1]; the bias is the last."""
        return self.vectors().candidate_embeddings


def _gathered(tables: TagVectors, ids: tf.Tensor | None) -> TagVectors:
    columns = [tables.embeddings, tables.bias, tables.click_bias]
    if tables.path is not None:
        columns.append(tables.path)
    if ids is None:
        return TagVectors(*(tf.convert_to_tensor(column) for column in columns))
    return TagVectors(*(tf.gather(column, ids) for column in columns))


def _split(rows: tf.Tensor) -> TagVectors:
    """Splits rows of `TagViews`, float [n, U + 2], into vectors and biases."""
    return TagVectors(rows[:, :-2], rows[:, -2], rows[:, -1])
