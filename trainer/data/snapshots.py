"""Transformed examples in memory, column by column, and batches of them.

A training set of user snapshots is a few hundred bytes a user and tag, so it is read once, put into
a canonical order and then gathered batch by batch in C++: nothing is padded, and the result does
not depend on the order of examples in files. The module knows only two columns by name, those that
identify a snapshot.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.contract.batches import slices
from trainer.contract.config_loader import require
from trainer.contract.features import SNAPSHOT_TIME, USER_ID
from trainer.contract.list_column import ListValues


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of every step that a process trains on, given by its replicas.

    Attributes:
      first: Index of the process's first replica.
      count: Number of the process's replicas, which have consecutive indices.
      total: Number of the replicas of all processes.
    """

    first: int = 0
    count: int = 1
    total: int = 1


@dataclasses.dataclass(frozen=True)
class Snapshots:
    """Transformed examples, ordered by user and time.

    Attributes:
      scalars: Columns with one value a snapshot, [num_examples], by name.
      lists: Columns with one list a snapshot, by name. Integers have 32 bits where they fit.
    """

    scalars: Mapping[str, np.ndarray]
    lists: Mapping[str, ListValues]

    @classmethod
    def from_batches(cls, batches: Iterable[Mapping[str, Any]]) -> "Snapshots":
        """Builds snapshots from parsed batches.

        Args:
          batches: Mappings of names to a dense array or tensor [batch] (or [batch, 1]) for scalars,
            and to a `tf.SparseTensor` [batch, n] or a `tf.RaggedTensor` [batch, None] for lists.
            All batches have the same names.

        Returns:
          The snapshots in canonical order: user id, then time, then order of arrival.

        Raises:
          ValueError: There is no batch, or a column is missing from one or has another number of
            rows.
        """
        scalar_parts: dict[str, list[np.ndarray]] = {}
        value_parts: dict[str, list[np.ndarray]] = {}
        length_parts: dict[str, list[np.ndarray]] = {}
        for batch in batches:
            for name, column in batch.items():
                if isinstance(column, tf.SparseTensor | tf.compat.v1.SparseTensorValue):
                    rows = np.asarray(column.indices)[:, 0]
                    num_rows = int(np.asarray(column.dense_shape)[0])
                    value_parts.setdefault(name, []).append(_narrow(np.asarray(column.values)))
                    length_parts.setdefault(name, []).append(np.bincount(rows, minlength=num_rows))
                elif isinstance(column, tf.RaggedTensor):
                    value_parts.setdefault(name, []).append(_narrow(column.flat_values.numpy()))
                    length_parts.setdefault(name, []).append(column.row_lengths().numpy())
                else:
                    scalar_parts.setdefault(name, []).append(np.asarray(column).reshape(-1))
        require(bool(scalar_parts or value_parts), "batches", "contain at least one batch", "none")
        scalars = {name: np.concatenate(parts) for name, parts in scalar_parts.items()}
        lists = {}
        for name, parts in value_parts.items():
            lengths = np.concatenate(length_parts[name])
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            lists[name] = ListValues(np.concatenate(parts), offsets)
        return cls(scalars, lists).sorted()

    def __post_init__(self) -> None:
        sizes = {name: len(column) for name, column in self.scalars.items()}
        sizes.update({name: len(column.offsets) - 1 for name, column in self.lists.items()})
        require(len(set(sizes.values())) == 1, "columns", "have the same number of rows", sizes)

    def sorted(self) -> "Snapshots":
        """Returns the snapshots in canonical order if they have user and time, else unchanged."""
        if USER_ID not in self.scalars or SNAPSHOT_TIME not in self.scalars:
            return self
        order = np.lexsort((self.scalars[SNAPSHOT_TIME], self.scalars[USER_ID].astype(bytes)))
        return self.take(order)

    @property
    def num_examples(self) -> int:
        """The number of snapshots."""
        for column in self.scalars.values():
            return len(column)
        return len(next(iter(self.lists.values())).offsets) - 1

    @property
    def fingerprint(self) -> str:
        """Hash of names, types and values of all columns."""
        digest = hashlib.blake2b(digest_size=16)
        arrays = {(name, ""): column for name, column in self.scalars.items()}
        for name, lists in self.lists.items():
            arrays[name, "values"], arrays[name, "offsets"] = lists.values, lists.offsets
        for key, array in sorted(arrays.items()):
            # An array of strings holds pointers; converted to bytes of one length it holds values.
            plain = array.astype(bytes) if array.dtype == object else array
            digest.update(f"{key} {plain.dtype} {plain.shape}".encode())
            digest.update(np.ascontiguousarray(plain).data)
        return digest.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays; for strings, bytes of their pointers."""
        scalars = sum(column.nbytes for column in self.scalars.values())
        return scalars + sum(c.values.nbytes + c.offsets.nbytes for c in self.lists.values())

    def take(self, indices: np.ndarray) -> "Snapshots":
        """Returns the snapshots at `indices`, int [n], in that order."""
        indices = np.asarray(indices, np.int64)
        return Snapshots(
            {name: column[indices] for name, column in self.scalars.items()},
            {name: column.take(indices) for name, column in self.lists.items()},
        )

    def chunks(
        self, size: int, rows: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, "Snapshots"]]:
        """Walks over the snapshots, so that no more than `size` of them are computed with at once.

        Args:
          size: Largest number of snapshots in a chunk, at least 1.
          rows: int [n], rows of the snapshots that are wanted, in that order; None: all.

        Yields:
          The rows of a chunk, int [at most `size`], and the snapshots at these rows.
        """
        wanted = np.arange(self.num_examples) if rows is None else rows
        for part in slices(len(wanted), size):
            yield wanted[part], self.take(wanted[part])

    def features(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """Returns all snapshots as one batch of tensors, in the form of `step_dataset`."""
        batch: dict[str, Any] = {}
        for name, column in self.scalars.items():
            if names is None or name in names:
                batch[name] = tf.constant(column)
        for name, lists in self.lists.items():
            if names is None or name in names:
                values = lists.values
                values = values.astype(np.int64) if values.dtype.kind == "i" else values
                batch[name] = tf.RaggedTensor.from_row_splits(values, lists.offsets, validate=False)
        return batch

    def step_dataset(
        self,
        batch_size: int,
        seed: int = 0,
        names: Collection[str] | None = None,
        first_step: int = 0,
        share: Share = Share(),  # noqa: B008 (frozen)
    ) -> tf.data.Dataset:
        """Returns the endless sequence of a training's batches, from a given step on.

        Every epoch is a permutation of the snapshots that depends on the seed and the epoch's
        number alone, so that a training can be resumed where it stopped, and so that processes
        which share it agree about its steps without communication.

        Args:
          batch_size: Number of snapshots in a step, of all replicas together; the last step of an
            epoch may have fewer.
          seed: Seed of the order.
          names: Names of the columns wanted; None: all.
          first_step: Number of steps that are skipped, counted over all epochs.
          share: Replicas whose parts of every step are wanted. A replica may get no snapshot of a
            short step.

        Returns:
          A dataset of dictionaries, `share.count` for each step: scalars as dense tensors [batch],
          lists as `tf.RaggedTensor` [batch, None] (ids int64).

        Raises:
          ValueError: `batch_size` is not positive, or a name is unknown.
        """
        require(batch_size >= 1, "batch_size", "be a positive integer", batch_size)
        gather = self._gatherer(names)
        num_examples = self.num_examples
        steps_per_epoch = math.ceil(num_examples / batch_size)

        def parts_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(num_examples, dtype=tf.int64),
                tf.stack([tf.constant(seed, tf.int64), epoch]),
            )

            def rows_of_part(part: tf.Tensor) -> tf.Tensor:
                start = part // share.count * batch_size
                size = tf.minimum(start + batch_size, num_examples) - start
                replica = share.first + part % share.count
                first = size * replica // share.total
                limit = size * (replica + 1) // share.total
                return order[start + first : start + limit]

            return tf.data.Dataset.range(steps_per_epoch * share.count).map(rows_of_part)

        first_epoch, steps_done = divmod(first_step, steps_per_epoch)
        dataset = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(parts_of_epoch)
        dataset = dataset.skip(steps_done * share.count)
        dataset = dataset.map(gather, num_parallel_calls=2, deterministic=True)
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return dataset.apply(endless).prefetch(2)

    def _gatherer(self, names: Collection[str] | None) -> Callable[[tf.Tensor], dict[str, Any]]:
        """Returns a function that gathers the batch of some rows, int64 [n]."""
        wanted = set(self.scalars) | set(self.lists) if names is None else set(names)
        unknown = sorted(wanted - set(self.scalars) - set(self.lists))
        require(not unknown, "names", "be columns of the snapshots", ", ".join(unknown))
        scalars = {n: tf.constant(c) for n, c in self.scalars.items() if n in wanted}
        groups = self._groups_by_offsets(wanted)

        def gather(rows: tf.Tensor) -> dict[str, Any]:
            batch: dict[str, Any] = {n: tf.gather(c, rows) for n, c in scalars.items()}
            for offsets, columns in groups:
                starts, limits = tf.gather(offsets, rows), tf.gather(offsets, rows + 1)
                # Computed once for a list and its weights, which have the same offsets.
                positions = tf.ragged.range(starts, limits)
                for name, values in columns.items():
                    picked = tf.gather(values, positions.flat_values)
                    if picked.dtype == tf.int32:
                        picked = tf.cast(picked, tf.int64)
                    batch[name] = positions.with_flat_values(picked)
            return batch

        return gather

    def _groups_by_offsets(self, wanted: set[str]) -> list[tuple[tf.Tensor, dict[str, tf.Tensor]]]:
        groups: dict[bytes, tuple[tf.Tensor, dict[str, tf.Tensor]]] = {}
        for name, column in self.lists.items():
            if name in wanted:
                key = column.offsets.tobytes()
                group = groups.setdefault(key, (tf.constant(column.offsets), {}))
                group[1][name] = tf.constant(column.values)
        return list(groups.values())


def _narrow(values: np.ndarray) -> np.ndarray:
    """Converts 64-bit integers to 32 bits where all fit, which halves the memory of ids."""
    if values.dtype == np.int64:
        limit = np.iinfo(np.int32).max
        if not len(values) or (values.max() <= limit and values.min() >= -limit):
            return values.astype(np.int32)
    return values
