"""The user tower in the form that is saved: the trained one, computed for all lists together.

It equals `InterestModel.query_embeddings`. Training keeps a computation of its own, list by list:
there the tables change with every step, so that nothing can be computed beforehand.
"""

import numpy as np
import tensorflow as tf

from trainer.model import InterestModel
from trainer.saved.pooled_fields import Fields, PooledFields
from trainer.saved.user_values import Segments, UserValues
from trainer.saved.value_bag import ValueBag


class ServedTower(tf.Module):
    """The trained user tower and linear path, for saving.

    Args:
      model: The trained model, called at least once. It must not be trained further: the tables are
        copied, and the layers after them are not.
    """

    def __init__(self, model: InterestModel):
        super().__init__(name="served_tower")
        tower = model.user_tower
        self.spec = model.spec
        self.query_dim = model.query_dim
        # Keras layers are kept behind a function: TensorFlow would describe each one in the saved
        # graph. Their variables are tracked instead.
        self._get_tower = lambda: tower
        layers = [tower.last]
        self._bag: ValueBag | None = None
        self._fields: PooledFields | None = None
        if tower.bag is not None:
            self._bag = ValueBag(tower.bag)
        else:
            self._fields = PooledFields(tower.fields)
            layers += [tower.interaction, tower.hidden]
            if tower.field_norm is not None:
                layers.append(tower.field_norm)
        self._layer_variables = [variable for layer in layers for variable in layer.variables]
        self._path: tf.Variable | None = None
        if model.history_path is not None:
            vectors = model.history_path.vectors.numpy()
            self._path = tf.Variable(vectors, trainable=False, name="history_path")
            self._path_list = self.spec.lists.index(model.history_path.domain)

    def query_embeddings(self, values: UserValues) -> tf.Tensor:
        """Computes queries of users, float [batch, U + R + 1], see `InterestModel`."""
        tower = self._get_tower()
        if self._bag is not None:
            hidden = self._bag(values)
        else:
            fields = self._pooled(values)
            hidden = tower.hidden_of_fields(fields.vectors, fields.mask, training=False)
        users = tower.last(hidden)
        parts = [users, tf.ones_like(users[:, :1])]
        if self._path is not None:
            parts.insert(1, self._path_embeddings(values))
        return tf.concat(parts, axis=1)

    def attention(self, values: UserValues) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes attention by value and by feature.

        By value it is the mean over heads, and over the fields of a list. By feature it is the sum
        over its fields of the interaction's attention: `utpm`: the attention between fields, mean
        over heads. `afm`: half of a pair's attention goes to each of its fields. `autoint`: the
        attention of present fields to the field, mean over them, over heads and layers. Other
        interactions have no attention, nor has `afm` for a user with one field: all features that
        the user has then get equal shares.

        Args:
          values: Ids of the users' features.

        Returns:
          float [n], attention to each value, which sums to 1 over a user's list; and float
          [batch, F], attention to the profile features of one value, then to the lists, which sums
          to 1 and is 0 for an empty list. A user without any feature, not even a profile feature,
          has zeros.
        """
        if self._bag is not None:
            return self._bag.attention(values), self._equal_attention(values)
        fields = self._pooled(values)
        equal = self._equal_attention(values)
        by_field = self._field_attention(fields)
        if by_field is None:
            return fields.attention, equal
        names = [feature.name for feature in (*self.spec.singles, *self.spec.lists)]
        places = [names.index(feature) for feature in self._get_tower().field_features]
        shares = tf.matmul(by_field, np.eye(len(names), dtype=np.float32)[places])
        is_known = tf.reduce_sum(shares, axis=1, keepdims=True) > 0
        return fields.attention, tf.where(is_known, shares, equal)

    def _equal_attention(self, values: UserValues) -> tf.Tensor:
        """Returns equal shares of all features that a user has, float [batch, F]."""
        num_singles, num_lists = len(self.spec.singles), len(self.spec.lists)
        present = tf.fill([values.num_users, num_singles], 1.0)
        if num_lists:
            segments = Segments.of(values, num_lists)
            is_there = segments.by_user(segments.sum(tf.ones_like(values.weights))) > 0
            present = tf.concat([present, tf.cast(is_there, tf.float32)], axis=1)
        return tf.math.divide_no_nan(present, tf.reduce_sum(present, axis=1, keepdims=True))

    def _pooled(self, values: UserValues) -> Fields:
        assert self._fields is not None
        return self._fields(values)

    def _field_attention(self, fields: Fields) -> tf.Tensor | None:
        """Returns attention by field [batch, K], sum 1, or 0 for one field alone; None: none."""
        tower = self._get_tower()
        attention = tower.interaction.attention(fields.vectors, fields.mask)
        if "fields" in attention:
            return tf.reduce_mean(attention["fields"], axis=2)
        names = tower.field_names
        if "field_pairs" in attention:
            halves = np.zeros([len(tower.field_pairs), len(names)], np.float32)
            for row, pair in enumerate(tower.field_pairs):
                halves[row, [names.index(name) for name in pair]] = 0.5
            return tf.matmul(attention["field_pairs"], halves)
        if "field_self_attention" in attention:
            weights = attention["field_self_attention"]
            taken = tf.reduce_mean(tf.reduce_sum(weights, axis=3), axis=[1, 2])
            return tf.math.divide_no_nan(taken, tf.reduce_sum(taken, axis=1, keepdims=True))
        return None

    def _path_embeddings(self, values: UserValues) -> tf.Tensor:
        """Returns `sum_i log(1 + w_i) A[t_i]` over the values of the path's domain, [batch, R]."""
        is_read = tf.where(values.lists == self._path_list)[:, 0]
        users, ids, weights = (
            tf.gather(column, is_read) for column in (values.users, values.ids, values.weights)
        )
        embedded = tf.math.log1p(weights)[:, tf.newaxis] * tf.gather(self._path, ids)
        return tf.math.unsorted_segment_sum(embedded, users, values.num_users)
