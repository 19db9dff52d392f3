"""The prepared examples of one data set in memory, and a fingerprint of what is in them."""

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
    """What every trial of a data set looks at.

    Attributes:
      spec: The features.
      vocabulary_sizes: Number of ids by vocabulary name.
      tags: What is known of the tags, in order of their ids.
      tag_frequencies: float [num_tags], how often each tag occurs.
      splits: Snapshots of `train`, `validation` and `test`.
      tag_clicks: float [num_tags], clicks of the training part. No training sees them.
    """

    spec: f.FeatureSpec
    vocabulary_sizes: Mapping[str, int]
    tags: TagAttributes
    tag_frequencies: np.ndarray
    splits: Mapping[str, Snapshots]
    tag_clicks: np.ndarray

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of all that is trained on; where files are and how they are cut does not enter."""
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
        """The same and the clicks, for those trials whose figures have them."""
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
    """Reads all splits into memory.

    Args:
      transformed_dir: Transformed examples, a folder `Split-<name>` each.
      transform_dir: The fitted transform.
      tags_path: Statistics of the tags, JSON lines.
      spec: The features.
      tag_vectors: The user's vectors of tags; None: there are none.

    Returns:
      The examples.
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
