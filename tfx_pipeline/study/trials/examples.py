"""The prepared examples of one data set in memory, with a fingerprint of their content."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping

import numpy as np
import tensorflow_transform as tft

from trainer.contract import features as f
from trainer.data.input_data import (
    load_snapshots,
    load_vocabularies,
    tag_frequencies,
    vocabulary_sizes,
)
from trainer.data.snapshots import Snapshots
from trainer.data.vocabulary_losses import check_nothing_lost
from trainer.evaluation.baselines import load_tag_clicks
from trainer.towers.tag_views import TagAttributes, load_tag_attributes


@dataclasses.dataclass(frozen=True)
class StudyExamples:
    """The examples of a data set that every trial uses.

    Attributes:
      spec: Feature specification.
      vocabulary_sizes: Number of ids by name of the vocabulary.
      tags: Attributes of the tags, in order of their ids.
      tag_frequencies: float [num_tags], frequency of each tag.
      splits: Snapshots of `train`, `validation` and `test`.
      tag_clicks: float [num_tags], clicks of the training part. Not used in training.
    """

    spec: f.FeatureSpec
    vocabulary_sizes: Mapping[str, int]
    tags: TagAttributes
    tag_frequencies: np.ndarray
    splits: Mapping[str, Snapshots]
    tag_clicks: np.ndarray

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of all inputs of training; paths and shards of the files do not matter."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.spec, sorted(self.vocabulary_sizes.items())):
            digest.update(repr(part).encode() + b"\n")
        digest.update("\n".join((*self.tags.tags, *self.tags.categories)).encode())
        for array in (self.tags.vectors, self.tag_frequencies):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
        for split, snapshots in sorted(self.splits.items()):
            digest.update(f"{split} {snapshots.fingerprint}\n".encode())
        return digest.hexdigest()

    @functools.cached_property
    def fingerprint_with_clicks(self) -> str:
        """Hash of the same inputs and the clicks, for trials whose figures depend on them."""
        digest = hashlib.blake2b(self.fingerprint.encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.tag_clicks, np.float64).data)
        return digest.hexdigest()


def load_examples(
    transformed_dir: str,
    transform_dir: str,
    tags_path: str,
    spec: f.FeatureSpec,
    tag_vectors: str | None = None,
) -> StudyExamples:
    """Reads all splits of a data set into memory.

    Args:
      transformed_dir: Folder of the transformed examples, with a folder `Split-<name>` each.
      transform_dir: Folder of the fitted transform.
      tags_path: Path of the statistics of the tags, JSON lines.
      spec: Feature specification.
      tag_vectors: Path of the user's vectors of tags; None: there are none.

    Returns:
      The examples in memory.
    """
    transform_output = tft.TFTransformOutput(transform_dir)
    splits = {
        split: load_snapshots(
            [os.path.join(transformed_dir, f"Split-{split}", "*")], transform_output
        )
        for split in f.SPLITS
    }
    vocabularies = load_vocabularies(transform_output, spec)
    check_nothing_lost(
        splits["train"], spec, {name: len(values) for name, values in vocabularies.items()}
    )
    tags = vocabularies[f.TAG_VOCABULARY]
    return StudyExamples(
        spec,
        vocabulary_sizes(transform_output, spec),
        load_tag_attributes(tags_path, tags, tag_vectors or ""),
        tag_frequencies(splits["train"], spec, len(tags)),
        splits,
        load_tag_clicks(tags_path, tags),
    )
