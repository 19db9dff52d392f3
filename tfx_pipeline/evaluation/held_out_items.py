"""Items of held-out users, for the Evaluator's figure of item recall by tags.

The clicked items come from the raw features `label_items` and `history_items`, which no transform
keeps; the recalled items come from `items.jsonl`, which counts clicks of the training part alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from serving.index.evaluation import read_serialized
from trainer.contract import features as f
from trainer.contract.metric_registry import ITEM_NUM_USERS, ITEM_RECALL, NUM_ITEMS
from trainer.contract.tag_items import ROW_KEYS, TagItems
from trainer.contract.whole_files import read_json_lines
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import TagScorer
from trainer.evaluation.item_recall import item_recall

_BATCH = 256


@dataclasses.dataclass(frozen=True)
class HeldOutItems:
    """The clicked items of the users in one part of the log.

    Attributes:
      items: Items by tag.
      tags: Tags in order of their ids.
      label_items: Items clicked at or after the snapshot's time, by user id.
      history_items: Items clicked before the snapshot's time, by user id.
    """

    items: TagItems
    tags: Sequence[str]
    label_items: Mapping[bytes, Sequence[str]]
    history_items: Mapping[bytes, Sequence[str]]

    def figures(
        self, tag_scorer: TagScorer | None, snapshots: Snapshots
    ) -> dict[str, float | None]:
        """Computes item recall under the names of the report.

        Args:
          tag_scorer: Function that scores every tag; None: the popular items are recalled for every
            user.
          snapshots: Examples, one per user.

        Returns:
          `item_recall_at_100`, None where no user has a truth, and `item_num_users`.
        """
        recall, num_users = item_recall(
            self.items, snapshots, self.label_items, self.history_items, tag_scorer, self.tags
        )
        return {ITEM_RECALL.at(NUM_ITEMS): recall, ITEM_NUM_USERS.name: float(num_users)}


def load_tag_items(path: str) -> TagItems:
    """Reads `items.jsonl` of the example generator from its artifact, local or remote."""
    return TagItems.from_rows(read_json_lines(path, ROW_KEYS))


def read_held_out_items(
    items: TagItems, tags: Sequence[str], file_patterns: Sequence[str]
) -> HeldOutItems:
    """Reads the clicked items of held-out users from raw examples.

    Args:
      items: Items by tag.
      tags: Tags in order of their ids.
      file_patterns: File patterns of raw examples, one per user.

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
