"""Keys of what is pushed and where: the index, the policy of its tags, batch predictions."""

import dataclasses
from typing import Literal

from trainer.contract import config_bounds as bounds
from trainer.contract.config_loader import RemovedKey

# Number of tags below which `auto` takes the exact index: there an approximate search gains nothing
# (docs/deployment.md).
EXACT_BELOW = 20_000


@bounds.checked
@dataclasses.dataclass(frozen=True)
class IndexConfig:
    """The top-k index of the tags.

    Attributes:
      kind: Kind of index: `exact`, `scann`, or `auto`: exact below 20,000 tags.
      k: Number of tags returned for a user; recall is measured at this k, or over all tags when
        there are fewer.
      target_recall: Recall against exact search below which nothing is pushed.
      num_leaves: Number of leaves of ScaNN's tree; null: the square root of the number of tags.
      export_exact: Whether a version with an exact index, in TensorFlow's own ops, is pushed as
        well, to `serving.exact_base_path` under the same number, for servers without the ops of
        ScaNN.
    """

    # No annotation, so that it is not a key. Read by `trainer.contract.config_loader`.
    REMOVED_KEYS = {
        "exact_below": RemovedKey(
            "Leave it out: `index.kind: auto` is exact below 20,000 tags; `exact` and `scann` "
            "decide it whatever their number.",
            EXACT_BELOW,
        ),
    }

    kind: Literal["auto", "exact", "scann"] = "auto"
    k: bounds.PositiveInteger = 100
    target_recall: bounds.ShareAboveZero = 0.98
    num_leaves: bounds.PositiveIntegerOrNull = None
    export_exact: bool = True


@bounds.checked
@dataclasses.dataclass(frozen=True)
class TagPolicyConfig:
    """Tags that are never returned, online or in batch; a version contains this policy.

    Attributes:
      blocked_tags: Tags that are left out of the index; normalised like those of the log. Tags that
        the model does not know are counted and named, and are no error.
      min_probability: Calibrated click probability below which a tag is not returned: an answer may
        then have fewer than k tags.
    """

    blocked_tags: tuple[str, ...] = ()
    min_probability: bounds.Rate = 0.0


@bounds.checked
@dataclasses.dataclass(frozen=True)
class ServingConfig:
    """Folders to which versions are pushed, and the tags that they never return.

    Attributes:
      base_path: Folder of the numbered versions; null: `serving` below the output folder.
      exact_base_path: Folder of the versions that `index.export_exact` asks for; null: `base_path`
        with the suffix `_exact`.
      policy: Tags that are never returned.
    """

    base_path: str | None = None
    exact_base_path: str | None = None
    policy: TagPolicyConfig = dataclasses.field(default_factory=TagPolicyConfig)


@bounds.checked
@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Batch predictions within the run; after it, `tagtower batch-predict` makes them.

    Attributes:
      bulk_inferrer: Whether TFX's BulkInferrer predicts for every user during the run, when the
        model is blessed; `inference_result` in the output folder then holds TFX's prediction logs.
    """

    bulk_inferrer: bool = False
