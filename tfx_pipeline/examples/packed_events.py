"""Packed events, 17 bytes each, and the functions for one user's events. No Beam here.

The events of many users in the shuffle are handled by `user_batches`.
"""

import numpy as np

from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from trainer.contract.arrow import pa
from trainer.contract.history import ATTRIBUTES, UserEvents
from trainer.contract.list_column import ListColumn

# Fields in the canonical order of one user's events, first to last. `item` is the position in the
# catalogue, which is sorted by id, so the order of positions is the order of ids.
EVENT_DTYPE = np.dtype(
    [("timestamp", "<i8"), ("item", "<i4"), ("clicked", "u1"), ("weight", "<f4")]
)


def pack_rows(rows: pa.RecordBatch) -> np.ndarray:
    """Packs validated interactions, `EVENT_DTYPE` [num_rows]."""
    events = np.empty(rows.num_rows, EVENT_DTYPE)
    events["timestamp"] = rows.column("timestamp").to_numpy()
    events["item"] = rows.column("item_index").to_numpy()
    events["clicked"] = rows.column("clicked").to_numpy()
    events["weight"] = rows.column("weight").to_numpy()
    return events


def item_columns(catalogue: ItemCatalogue) -> dict[str, ListColumn]:
    """Returns the attributes of all items in the form that `trainer.contract.history` reads."""
    columns = {}
    for name in ATTRIBUTES:
        attribute = catalogue.attribute(name)
        vocabulary = np.array(attribute.vocabulary.to_pylist(), object)
        columns[name] = ListColumn(attribute.codes, attribute.offsets, vocabulary)
    return columns


def to_user_events(events: np.ndarray, columns: dict[str, ListColumn]) -> UserEvents:
    """Unpacks the events of one user.

    Args:
      events: `EVENT_DTYPE` [n], in canonical order.
      columns: Attributes of all items, see `item_columns`.

    Returns:
      The events, in the form of which features are made.
    """
    return UserEvents(
        timestamp=events["timestamp"],
        clicked=events["clicked"].astype(bool),
        weight=events["weight"].astype(np.float64),
        item=events["item"],
        attributes=columns,
    )
