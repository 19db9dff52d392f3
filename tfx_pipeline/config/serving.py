"""What is pushed and where: the index, the policy of its tags, batch predictions."""

import dataclasses
from typing import Literal

from trainer.contract.config_loader import RemovedKey, require

# Number of tags under which `auto` takes the exact index: below it an approximate search gains
# nothing (docs/deployment.md).
EXACT_BELOW = 20_000


@dataclasses.dataclass(frozen=True)
class IndexConfig:
    """The top-k index.

    Attributes:
      kind: `exact`, `scann`, or `auto`: exact below 20,000 tags.
      k: Tags returned for a user; recall is measured at this k, or of all tags when there are
        fewer.
      target_recall: Recall against exact search, below which nothing is pushed.
      num_leaves: Of ScaNN's tree; null: the square root of the number of tags.
      export_exact: Whether a version with an exact index, in TensorFlow's own ops, is pushed as
        well, for servers without ScaNN's: to `serving.exact_base_path`, under the same number.
    """

    # Without a type, so that it is no key. Read by `trainer.contract.config_loader`.
    REMOVED_KEYS = {
        "exact_below": RemovedKey(
            "Leave it out: `index.kind: auto` is exact below 20,000 tags; `exact` and `scann` "
            "decide it whatever their number.",
            EXACT_BELOW,
        ),
    }

    kind: Literal["auto", "exact", "scann"] = "auto"
    k: int = 100
    target_recall: float = 0.98
    num_leaves: int | None = None
    export_exact: bool = True

    def __post_init__(self):
        require(self.k >= 1, "k", "be a positive integer", self.k)
        require(
            0 < self.target_recall <= 1,
            "target_recall",
            "be above 0 and at most 1",
            self.target_recall,
        )
        if self.num_leaves is not None:
            require(
                self.num_leaves >= 1, "num_leaves", "be a positive integer or null", self.num_leaves
            )


@dataclasses.dataclass(frozen=True)
class TagPolicyConfig:
    """What is never returned, online or in batch; it is in the version, whoever serves it.

    Attributes:
      blocked_tags: Tags that are not in the index; normalised as those of the log. Those that the
        model does not know are counted and named, and are no error.
      min_probability: Calibrated probability of a click below which a tag is not returned: the
        profile is then shorter than k.
    """

    blocked_tags: tuple[str, ...] = ()
    min_probability: float = 0.0

    def __post_init__(self):
        require(
            0 <= self.min_probability < 1,
            "min_probability",
            "be at least 0 and below 1",
            self.min_probability,
        )


@dataclasses.dataclass(frozen=True)
class ServingConfig:
    """Where versions are pushed, and what they never return.

    Attributes:
      base_path: Folder of the numbered versions; null: `serving` below the output folder.
      exact_base_path: Folder of the versions that `index.export_exact` asks for; null: `base_path`
        with `_exact` at its end.
      policy: What is never returned.
    """

    base_path: str | None = None
    exact_base_path: str | None = None
    policy: TagPolicyConfig = dataclasses.field(default_factory=TagPolicyConfig)


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Batch predictions within the run; `tagtower batch-predict` makes them after it.

    Attributes:
      bulk_inferrer: Whether TFX's BulkInferrer predicts for every user *now*, when the model is
        blessed; `inference_result` in the output folder then has TFX's prediction logs.
    """

    bulk_inferrer: bool = False
