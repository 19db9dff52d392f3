"""Reads transformed examples, and the vocabularies of the transform."""

from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainer.contract import features as f
from trainer.contract.config_loader import require
from trainer.contract.file_system import matching
from trainer.data.snapshots import Snapshots

_READ_BATCH = 512


def load_snapshots(
    file_patterns: Sequence[str],
    transform_output: tft.TFTransformOutput,
    names: Collection[str] | None = None,
) -> Snapshots:
    """Reads transformed examples into memory, in canonical order.

    Args:
      file_patterns: Globs of gzipped TFRecord files.
      transform_output: The fitted transform.
      names: Names of the columns wanted, beside those that identify a snapshot; None: all.

    Returns:
      The snapshots, ordered by user and time.

    Raises:
      ValueError: No file matches.
    """
    files = sorted(path for pattern in file_patterns for path in matching(pattern))
    require(bool(files), "file_patterns", "match at least one file", list(file_patterns))
    spec = transform_output.transformed_feature_spec()
    if names is not None:
        wanted = {*names, f.USER_ID, f.SNAPSHOT_TIME}
        spec = {name: feature for name, feature in spec.items() if name in wanted}
    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(_READ_BATCH)
    return Snapshots.from_batches(dataset.map(lambda records: tf.io.parse_example(records, spec)))


def vocabulary_sizes(
    transform_output: tft.TFTransformOutput, spec: f.FeatureSpec
) -> dict[str, int]:
    """Returns the numbers of ids of vocabularies, with hash buckets and the id of the unknown.

    Args:
      transform_output: The fitted transform.
      spec: The feature specification.

    Returns:
      Sizes by vocabulary name, for the vocabularies of all domains and profile features.
    """
    sizes = {}
    for feature in spec.profile:
        name = feature.vocabulary_name
        num_oov_buckets = 0 if feature.is_number else feature.num_oov_buckets
        sizes[name] = transform_output.vocabulary_size_by_name(name) + num_oov_buckets
        # An unknown single value has an id; an unknown list is empty.
        sizes[name] += int(not feature.is_list)
    for domain in spec.domains:
        name = domain.vocabulary_name
        sizes[name] = (
            transform_output.vocabulary_size_by_name(name) + spec.vocabulary(name).num_oov_buckets
        )
    return sizes


def load_vocabularies(
    transform_output: tft.TFTransformOutput, spec: f.FeatureSpec
) -> dict[str, list[str]]:
    """Reads vocabularies, without hash buckets and the id of the unknown.

    Args:
      transform_output: The fitted transform.
      spec: The feature specification.

    Returns:
      Values in order of their ids, by vocabulary name, for the tags and all domains and profile
      features; for a profile feature `number`, the lower bounds of its buckets as text, ascending.
    """
    names = {f.TAG_VOCABULARY} | {domain.vocabulary_name for domain in spec.domains}
    names |= {feature.vocabulary_name for feature in spec.profile}
    found = {
        name: [value.decode() for value in transform_output.vocabulary_by_name(name)]
        for name in sorted(names)
    }
    for feature in spec.profile:
        if feature.is_number:
            # The transform's file is in order of frequency; ids are in order of the bounds.
            found[feature.vocabulary_name].sort(key=float)
    return found


def load_tags(transform_output: tft.TFTransformOutput) -> list[str]:
    """Reads the tags in order of their ids."""
    return [tag.decode() for tag in transform_output.vocabulary_by_name(f.TAG_VOCABULARY)]


def tag_frequencies(snapshots: Snapshots, spec: f.FeatureSpec, num_tags: int) -> np.ndarray:
    """Counts how often each tag occurs in the training examples' labels, impressions and features.

    The transform has made the vocabulary from the same values, in order of the same counts; writing
    the counts as well would cost it a quarter of its time.

    Args:
      snapshots: The training examples.
      spec: The feature specification.
      num_tags: Number of tags in the vocabulary.

    Returns:
      float64 [num_tags], counts in order of the tags' ids.

    Raises:
      ValueError: A tag does not occur.
    """
    names = [f.LABEL_TAGS, f.IMPRESSION_TAGS]
    names += [domain.name for domain in spec.domains if domain.vocabulary_name == f.TAG_VOCABULARY]
    counts = np.zeros(num_tags)
    for name in names:
        # Labels out of vocabulary and hash buckets do not count.
        _, ids = snapshots.lists[name].known_pairs(num_tags)
        counts += np.bincount(ids, minlength=num_tags)
    missing = np.flatnonzero(counts == 0)
    require(not len(missing), "snapshots", "have every tag of the vocabulary", missing[:5])
    return counts
