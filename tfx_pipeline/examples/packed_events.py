"""Packed events, 17 bytes each, and the functions for one user's events. No Beam here.

The events of many users in the shuffle are handled by `user_batches`.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from tfx_pipeline.tables.row_batches import ValidatedBatch
from trainer.contract.arrow import pa
from trainer.contract.history import ATTRIBUTES, UserEvents
from trainer.contract.list_column import ListColumn

# Fields in the canonical order of one user's events, first to last. `item` is the position in the
# catalogue, which is sorted by id, so the order of positions is the order of ids.
EVENT_DTYPE = np.dtype(
    [("timestamp", "<i8"), ("item", "<i4"), ("clicked", "u1"), ("weight", "<f4")]
)


@dataclasses.dataclass(frozen=True)
class UserChunk:
    """All events that are kept of one user.

    Attributes:
      events: `EVENT_DTYPE` [num_events] as bytes, in canonical order, without exact duplicates.
      num_duplicates: Number of exact duplicates dropped. Beyond the cap an old duplicate may be
        counted as dropped.
      num_dropped: Number of oldest events dropped because of the cap.
    """

    events: bytes = b""
    num_duplicates: int = 0
    num_dropped: int = 0

    def to_array(self) -> np.ndarray:
        """Returns the events, `EVENT_DTYPE` [num_events]."""
        return np.frombuffer(self.events, EVENT_DTYPE)


def canonical(events: np.ndarray) -> np.ndarray:
    """Sorts events canonically and drops exact duplicates.

    Args:
      events: `EVENT_DTYPE` [n] in any order.

    Returns:
      `EVENT_DTYPE` [m] in canonical order.
    """
    order = np.lexsort((events["weight"], events["clicked"], events["item"], events["timestamp"]))
    ordered = events[order]
    if len(ordered) < 2:
        return ordered
    return ordered[np.append(True, ordered[1:] != ordered[:-1])]


def pack_rows(rows: pa.RecordBatch) -> np.ndarray:
    """Packs validated interactions, `EVENT_DTYPE` [num_rows]."""
    events = np.empty(rows.num_rows, EVENT_DTYPE)
    events["timestamp"] = rows.column("timestamp").to_numpy()
    events["item"] = rows.column("item_index").to_numpy()
    events["clicked"] = rows.column("clicked").to_numpy()
    events["weight"] = rows.column("weight").to_numpy()
    return events


def pack_by_user(validated: ValidatedBatch) -> Iterator[tuple[str, bytes]]:
    """Packs the valid rows of a batch, grouped by user.

    Args:
      validated: Validated interactions.

    Yields:
      User id, and the user's events in this batch, `EVENT_DTYPE` as bytes.
    """
    rows = validated.rows
    if not rows.num_rows:
        return
    events = pack_rows(rows)
    users = rows.column("user_id").dictionary_encode()
    codes = users.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(users.dictionary)))
    for user_id, part in zip(
        users.dictionary.to_pylist(), np.split(events[order], ends[:-1]), strict=True
    ):
        yield user_id, part.tobytes()


def item_columns(catalogue: ItemCatalogue) -> dict[str, ListColumn]:
    """Returns the attributes of all items in the form that `trainer.contract.history` reads."""
    columns = {}
    for name in ATTRIBUTES:
        attribute = catalogue.attribute(name)
        vocabulary = np.array(attribute.vocabulary.to_pylist(), object)
        columns[name] = ListColumn(attribute.codes, attribute.offsets, vocabulary)
    return columns


def to_user_events(chunk: UserChunk, columns: dict[str, ListColumn]) -> UserEvents:
    """Unpacks the events of one user."""
    events = chunk.to_array()
    return UserEvents(
        timestamp=events["timestamp"],
        clicked=events["clicked"].astype(bool),
        weight=events["weight"].astype(np.float64),
        item=events["item"],
        attributes=columns,
    )
