"""Raw features from events, in the graph: the inputs that the other signatures take.

The definition of a feature is `trainer.contract.history.feature_values`, which also made the
training examples.
"""

from collections.abc import Mapping

import tensorflow as tf

from serving.servable.event_history import EventHistory
from serving.servable.event_inputs import Events, from_flat, from_lists
from serving.servable.event_text import one_line, stripped
from trainer.contract.features import FeatureSpec, ProfileFeature, weights_name
from trainer.contract.tag_normalization import TagNormalization


class EventFeatures:
    """Computes the raw features of users from their events and profiles.

    Attributes:
      spec: The feature specification.
    """

    def __init__(self, spec: FeatureSpec, normalization: TagNormalization):
        """Initializes with the features of a version.

        Args:
          spec: The feature specification, with at least one domain.
          normalization: Normalisation of the version's tags.
        """
        self.spec = spec
        self._history = EventHistory(spec, normalization)
        # Each form is traced once for all signatures: what is saved is loaded often.
        self._of_lists = tf.function(self._features_of_lists, autograph=False)
        self._of_flat = tf.function(self._features_of_flat, autograph=False)
        self._values = tf.function(self._history.values, autograph=False)

    def of_lists(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Computes raw features from padded lists of events, see `of_flat`."""
        return self._of_lists(dict(inputs))

    def of_flat(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Computes raw features from flat arrays of events.

        Args:
          inputs: Events and profile features by name, see `tagtower_client.event_rows`.

        Returns:
          Raw features by name, as `trainer.contract.raw_features.raw_signature` describes them.
        """
        return self._of_flat(dict(inputs))

    def _features_of_lists(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._features(from_lists(inputs), inputs)

    def _features_of_flat(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._features(from_flat(inputs), inputs)

    def _features(self, events: Events, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        features = {feature.name: _profile(feature, inputs) for feature in self.spec.profile}
        found = self._values(events)
        for domain, (values, weights) in zip(self.spec.domains, found, strict=True):
            features[domain.name], features[weights_name(domain.name)] = values, weights
        return features


def _profile(feature: ProfileFeature, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Cleans a profile feature as `trainer.contract.history.profile_value` does."""
    given = inputs[feature.name]
    if feature.is_number:
        return given
    if not feature.is_list:
        return one_line(given)
    values = stripped(one_line(given))
    row, column = tf.unstack(tf.where(values != ""), num=2, axis=1)
    values = tf.gather_nd(values, tf.stack([row, column], 1))
    distinct, code = tf.unique(values, tf.int64)
    num_codes = tf.size(distinct, tf.int64)
    # `unique` keeps the order in which values come first, and the rows are in order.
    keys = tf.unique(row * num_codes + code).y
    lists = tf.RaggedTensor.from_value_rowids(
        tf.gather(distinct, keys % num_codes), keys // num_codes, tf.shape(given, tf.int64)[0]
    )
    return lists[:, : feature.effective_max_values].to_tensor("")
