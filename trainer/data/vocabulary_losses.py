"""Checks that no vocabulary lacks values from which it was made.

A vocabulary without limits holds every value of the training examples. If it does not, values were
lost on the way to its file: the transform silently drops values that a line of text cannot hold.
"""

from collections.abc import Mapping

import numpy as np

from trainer.contract import features as f
from trainer.data.snapshots import Snapshots


def count_lost_values(
    train: Snapshots, spec: f.FeatureSpec, num_values: Mapping[str, int]
) -> dict[str, int]:
    """Counts values of training examples that are missing from vocabularies without limits.

    Args:
      train: The examples from which the vocabularies were made.
      spec: The feature specification.
      num_values: Number of values by vocabulary name, without hash buckets.

    Returns:
      Number of occurrences of missing values in the examples, by vocabulary name. A vocabulary that
      `max_size` or `min_frequency` may have cut is left out: it may lack values.
    """
    lost = {}
    for feature in spec.profile:
        name = feature.vocabulary_name
        if feature.is_list:
            ids = train.lists[feature.name].values
            lost[name] = int(np.count_nonzero(ids >= num_values[name]))
            continue
        # Id 0 means unknown, which is no value.
        lost[name] = int(np.count_nonzero(train.scalars[feature.name] > num_values[name]))
    columns = {f.TAG_VOCABULARY: [f.LABEL_TAGS, f.IMPRESSION_TAGS]}
    for domain in spec.domains:
        columns.setdefault(domain.vocabulary_name, []).append(domain.name)
    for name, columns_of in columns.items():
        limits, size = spec.vocabulary(name), num_values[name]
        is_cut = limits.max_size is not None and size >= limits.max_size
        if is_cut or limits.min_frequency > 1:
            continue
        found = [train.lists[column].values for column in columns_of]
        lost[name] = sum(int(np.count_nonzero((ids < 0) | (ids >= size))) for ids in found)
    return lost


def check_nothing_lost(
    train: Snapshots, spec: f.FeatureSpec, num_values: Mapping[str, int]
) -> None:
    """Raises an error if a vocabulary lacks a value (`count_lost_values`).

    Raises:
      ValueError: A vocabulary lacks a value; the message names the vocabulary.
    """
    for name, num_lost in count_lost_values(train, spec, num_values).items():
        if num_lost:
            raise ValueError(
                f"The vocabulary `{name}` must hold every value of the training examples, because "
                f"nothing limits its size. Received: {num_values[name]} values, and {num_lost} "
                "others in the examples. Remove the control characters from that column of the "
                "tables."
            )
