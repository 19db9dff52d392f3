"""Statistics of a log's tags and items: two files of JSON lines beside the examples.

`tags.jsonl` holds clicks, impressions, number of items and category by tag; `items.jsonl` holds
clicks and tags by item, so that items can be recalled through tags. Clicks and impressions are
counted over the training part only: a baseline that ranks by them has seen no label of validation
or test.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator

import numpy as np

from tfx_pipeline.tables.item_catalogue import ItemCatalogue
from trainer.contract.arrow import pa
from trainer.contract.batches import slices
from trainer.contract.history import UserEvents

TAGS_FILE = "tags.jsonl"
ITEMS_FILE = "items.jsonl"

_ROWS_PER_CHUNK = 10_000  # number of rows held as Python objects at once


@dataclasses.dataclass(frozen=True)
class TrainingCounts:
    """Counts of the training part, passed from the shards to the files.

    Attributes:
      tags: int64 [2, num_tags], clicks and impressions by position in the tag vocabulary.
      items: int32 [m], ascending positions in the catalogue of the items with a click. Sparse, as a
        shard sees few of millions of items.
      item_clicks: int64 [m], clicks of these items.
    """

    tags: np.ndarray
    items: np.ndarray
    item_clicks: np.ndarray


class CountsOfShard:
    """Sums the training counts of a shard, a block of users at a time."""

    def __init__(self, num_tags: int, num_items: int):
        """Initializes all counts with zero.

        Args:
          num_tags: Size of the tag vocabulary.
          num_items: Size of the catalogue.
        """
        self._tags = np.zeros((2, num_tags), np.int64)
        self._item_clicks = np.zeros(num_items, np.int64)

    def add(self, events: UserEvents) -> None:
        """Adds events of one or more users, all of them in the training part."""
        codes, position = events.attributes["tags"].select(events.item)
        num_tags = self._tags.shape[1]
        self._tags[0] += np.bincount(codes[events.clicked[position]], minlength=num_tags)
        self._tags[1] += np.bincount(codes, minlength=num_tags)
        np.add.at(self._item_clicks, events.item[events.clicked], 1)

    def total(self) -> TrainingCounts:
        """Returns the sums so far."""
        items = np.flatnonzero(self._item_clicks).astype(np.int32)
        return TrainingCounts(self._tags, items, self._item_clicks[items])


def sum_counts(parts: Iterable[TrainingCounts]) -> TrainingCounts:
    """Sums counts over one catalogue; no counts give zeros that fit any catalogue."""
    tags: np.ndarray = np.zeros((2, 1), np.int64)
    items, clicks = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for part in parts:
        tags = tags + part.tags
        items.append(part.items)
        clicks.append(part.item_clicks)
    distinct, inverse = np.unique(np.concatenate(items), return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, inverse, np.concatenate(clicks))
    return TrainingCounts(tags, distinct, sums)


def tag_lines(counts: TrainingCounts, catalogue: ItemCatalogue) -> Iterator[str]:
    """Yields the lines of `tags.jsonl`, one per tag of the items table, in order of the tags.

    Args:
      counts: Counts of the training part.
      catalogue: Catalogue of the items.

    Yields:
      JSON objects with `tag`, `clicks`, `impressions`, `items` (number of items that have the tag)
      and `category` (see `tag_categories`; null where none of its items has one).
    """
    tags = catalogue.tags
    num_items = np.bincount(tags.codes, minlength=len(tags.vocabulary))
    category = tag_categories(catalogue)
    names = ("tag", "clicks", "impressions", "items", "category")
    for part in slices(len(tags.vocabulary), _ROWS_PER_CHUNK):
        columns = (
            tags.vocabulary[part].to_pylist(),
            *counts.tags[:, part].tolist(),
            num_items[part].tolist(),
            catalogue.category.vocabulary.take(
                pa.array(category[part], mask=category[part] < 0)
            ).to_pylist(),
        )
        for row in zip(*columns, strict=True):
            yield _line(dict(zip(names, row, strict=True)))


def tag_categories(catalogue: ItemCatalogue) -> np.ndarray:
    """Returns each tag's most frequent category over its items; ties are resolved by name.

    Args:
      catalogue: Catalogue of the items.

    Returns:
      int64 [num_tags], positions in the vocabulary of `catalogue.category`; -1: none of the tag's
      items has a category.
    """
    tags, category = catalogue.tags, catalogue.category
    of_item = np.full(len(catalogue), -1, np.int64)
    of_item[np.flatnonzero(np.diff(category.offsets))] = category.codes
    of_value = of_item[np.repeat(np.arange(len(catalogue)), np.diff(tags.offsets))]
    is_known = of_value >= 0
    num_categories = max(len(category.vocabulary), 1)
    pairs, counts = np.unique(
        tags.codes[is_known].astype(np.int64) * num_categories + of_value[is_known],
        return_counts=True,
    )
    tag, own = np.divmod(pairs, num_categories)
    order = np.lexsort((own, -counts, tag))
    distinct, first = np.unique(tag[order], return_index=True)
    found = np.full(len(tags.vocabulary), -1, np.int64)
    found[distinct] = own[order][first]
    return found


def item_lines(counts: TrainingCounts, catalogue: ItemCatalogue) -> Iterator[str]:
    """Yields the lines of `items.jsonl`, one per item of the items table, in order of the ids.

    Args:
      counts: Counts of the training part.
      catalogue: Catalogue of the items.

    Yields:
      JSON objects with `item_id`, `clicks` and `tags` (normalised, in alphabetical order).
    """
    clicks = np.zeros(len(catalogue), np.int64)
    clicks[counts.items] = counts.item_clicks
    tags = catalogue.tags
    for part in slices(len(catalogue), _ROWS_PER_CHUNK):
        offsets = tags.offsets[part.start : part.stop + 1]
        values = tags.vocabulary.take(pa.array(tags.codes[offsets[0] : offsets[-1]])).to_pylist()
        starts = (offsets - offsets[0]).tolist()
        for item_id, num_clicks, start, end in zip(
            catalogue.item_ids[part].to_pylist(),
            clicks[part].tolist(),
            starts[:-1],
            starts[1:],
            strict=True,
        ):
            yield _line({"item_id": item_id, "clicks": num_clicks, "tags": values[start:end]})


def _line(row: dict[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
