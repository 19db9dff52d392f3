"""Items of held-out users: what anyone's tags recall of them, for the Evaluator.

What users clicked comes from the raw features `label_items` and `history_items`, which no transform
keeps; what is recalled from `items.jsonl`, the clicks of the training part alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from serving.index.evaluation import read_serialized
from trainer.contract import features as f
from trainer.contract.tag_items import ROW_KEYS, TagItems
from trainer.contract.whole_files import read_json_lines
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import TagScorer
from trainer.evaluation.item_recall import NUM_ITEMS, item_recall

_BATCH = 256


@dataclasses.dataclass(frozen=True)
class HeldOutItems:
    """The items of one part of the log.

    Attributes:
      items: The items by tag.
      tags: The tags in order of their ids.
      label_items: By user id, the items clicked at or after the snapshot's time.
      history_items: By user id, those clicked before it.
    """

    items: TagItems
    tags: Sequence[str]
    label_items: Mapping[bytes, Sequence[str]]
    history_items: Mapping[bytes, Sequence[str]]

    def figures(
        self, tag_scorer: TagScorer | None, snapshots: Snapshots
    ) -> dict[str, float | None]:
        """Item recall under the names of the report.

        Args:
          tag_scorer: Scores every tag; None: popular items, whoever the user is.
          snapshots: One a user.

        Returns:
          `item_recall_at_100`, None where no user has a truth, and `item_num_users`.
        """
        recall, num_users = item_recall(
            self.items, snapshots, self.label_items, self.history_items, tag_scorer, self.tags
        )
        return {f"item_recall_at_{NUM_ITEMS}": recall, "item_num_users": float(num_users)}


def load_tag_items(path: str) -> TagItems:
    """Reads `items.jsonl` of the example generator, wherever its artifacts are."""
    return TagItems.from_rows(read_json_lines(path, ROW_KEYS))


def read_held_out_items(
    items: TagItems, tags: Sequence[str], file_patterns: Sequence[str]
) -> HeldOutItems:
    """Reads the items of held-out users.

    Args:
      items: The items by tag.
      tags: The tags in order of their ids.
      file_patterns: Of raw examples, one a user.

    Returns:
      The items of this part.
    """
    columns: dict[str, dict[bytes, list[str]]] = {f.LABEL_ITEMS: {}, f.HISTORY_ITEMS: {}}
    spec: dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature] = {
        name: tf.io.RaggedFeature(tf.string) for name in columns
    }
    spec[f.USER_ID] = tf.io.FixedLenFeature([], tf.string)
    records = read_serialized(file_patterns)
    for first in range(0, len(records), _BATCH):
        parsed = tf.io.parse_example(records[first : first + _BATCH], spec)
        for name, by_user in columns.items():
            rows = parsed[name].to_list()
            for user, row in zip(parsed[f.USER_ID].numpy(), rows, strict=True):
                by_user[user] = [item.decode() for item in row]
    return HeldOutItems(items, tags, columns[f.LABEL_ITEMS], columns[f.HISTORY_ITEMS])
