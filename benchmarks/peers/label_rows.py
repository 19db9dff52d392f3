"""Makes the peers' input: one row for each label, a user's lists padded to a fixed length.

It is made from the same snapshots that the trainer reads. All arrays are held in memory and a batch
is a few gathers of whole rows in C++, so that no peer waits for its input.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from trainer.contract import features as f

if TYPE_CHECKING:
    from trainer.contract.list_column import ListValues
    from trainer.data.snapshots import Snapshots

# Number of values of a domain that a plain implementation keeps: the heaviest, which come first.
MAX_VALUES = 64
LABEL = "label"
PADDING = 0


@dataclasses.dataclass(frozen=True)
class LabelRows:
    """Users as rectangular arrays, and the label rows that refer to them.

    Attributes:
      profile: int32 [num_snapshots] by feature name, ids of profile features.
      domains: int32 [num_snapshots, MAX_VALUES] by domain name, ids + 1, heaviest value first, then
        `PADDING`.
      snapshot: int32 [num_rows], snapshot of each row.
      tag: int32 [num_rows], label of each row, a tag that the user clicked later.
    """

    profile: Mapping[str, np.ndarray]
    domains: Mapping[str, np.ndarray]
    snapshot: np.ndarray
    tag: np.ndarray

    @classmethod
    def of(cls, snapshots: "Snapshots", spec: f.FeatureSpec) -> "LabelRows":
        """Unrolls snapshots into a row for every known label tag."""
        labels = snapshots.lists[f.LABEL_TAGS]
        rows, tags = labels.known_pairs()
        return cls(
            {p.name: snapshots.scalars[p.name].astype(np.int32) for p in spec.profile},
            {d.name: padded(snapshots.lists[d.name], MAX_VALUES) for d in spec.domains},
            rows.astype(np.int32),
            tags.astype(np.int32),
        )

    @property
    def num_rows(self) -> int:
        """The number of label rows, which are the label examples."""
        return len(self.tag)

    @property
    def values_per_row(self) -> float:
        """The mean number of values of all domains in a row, without padding."""
        values = sum((table != PADDING).sum(axis=1) for table in self.domains.values())
        return float(values[self.snapshot].mean())

    def dataset(self, batch_size: int, seed: int) -> tf.data.Dataset:
        """Returns endless batches in random order, with every row once in each pass.

        Args:
          batch_size: Number of rows in a batch, which is always full; at most `num_rows`.
          seed: Seed of the order.

        Returns:
          A dataset of dictionaries: ids of profile features [batch], padded ids [batch, MAX_VALUES]
          by domain, `label` [batch]; all int32.
        """
        order = np.random.default_rng(seed).permutation(self.num_rows).astype(np.int32)
        rows, snapshot, tag = (tf.constant(a) for a in (order, self.snapshot, self.tag))
        columns = {name: tf.constant(a) for name, a in {**self.profile, **self.domains}.items()}

        def batch(first: tf.Tensor) -> dict[str, tf.Tensor]:
            picked = rows[first : first + batch_size]
            users = tf.gather(snapshot, picked)
            features: dict[str, Any] = {n: tf.gather(c, users) for n, c in columns.items()}
            return {**features, LABEL: tf.gather(tag, picked)}

        starts = tf.data.Dataset.range(0, self.num_rows - batch_size + 1, batch_size).repeat()
        return starts.map(batch, num_parallel_calls=2, deterministic=True).prefetch(2)


def padded(lists: "ListValues", width: int) -> np.ndarray:
    """Pads lists to int32 [num_rows, width]: ids + 1 of the first values, then `PADDING`."""
    lengths = np.diff(lists.offsets)
    inside = np.arange(len(lists.values)) - np.repeat(lists.offsets[:-1], lengths)
    kept = inside < width
    table = np.full((len(lengths), width), PADDING, np.int32)
    table[lists.row_ids[kept], inside[kept]] = lists.values[kept] + 1
    return table
