"""Configuration of model and training: frozen dataclasses, checked when they are created."""

import dataclasses
from typing import Literal

from trainer.contract.config_loader import RemovedKey, require
from trainer.contract.metric_registry import CLICK_GAUC, MEAN_NDCG, EarlyStoppingMetric


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Configuration of the two towers, with the symbols of docs/model.md.

    Attributes:
      interaction: Interaction by which the user tower combines its fields: `utpm` (attention
        between them and feature crossing), the towers it is compared with (`youtube_dnn`, `afm`,
        `nfm`, `dcn`, `autoint`), or `bag`, counts of values through dense layers, without any
        embedding.
      pooling: Pooling of the values of a domain into a vector: `attention`, `average`, or
        `default`, the pooling in the `interaction`'s own paper (attention for `utpm`, else
        average). `utpm` pools the vectors of its domains in the same way. No effect on `bag`.
      embedding_dim: E, size of every feature embedding.
      num_heads: H, heads of the domain attention; an average has one.
      attention_dim: A, size of the attention's hidden layer and of its query vectors, also of the
        attention between pairs of fields in `afm`; size of one head of `autoint`.
      cross_dim: C, size of the latent vectors of the feature crossing.
      hidden_dim: D, width of the first fully connected layer.
      output_dim: U, size of user and tag vectors.
      norm: Normalisation of the interaction's outputs: `batch` subtracts what all users have in
        common, `layer` normalises each user's vector by itself.
      share_tag_embeddings: Whether domains of tags use the label-side tag table's ids *and* weights
        (needs `embedding_dim` equal to `output_dim`). `bag` has no embeddings to share.
      use_domain_weights: Whether a value's weight multiplies its attention (a value seen n times
        counts as n values, so that no history is lost to deduplication).
      use_domain_totals: Whether the logarithm of a domain's total weight is a field of its own,
        because a softmax does not show how long a history is.
      log_count_fields: Whether each domain has a second field, pooled in the same way (by an
        attention of its own) with log(1 + weight) as the multiplicity: counts follow the popularity
        of values, their logarithm shows the rarer ones that tell users apart. Not in the paper.
      field_residual: Whether the hidden layer also sees every field's own vector beside the
        interaction's features. Not in the paper, whose attention over domains averages them away.
        No effect on `youtube_dnn`, whose features are those vectors, and on `bag`.
      click_projection: Whether the click head sees the user's vector through a linear map of its
        own, so that ranking clicks and finding tags need not agree on one vector. Not in the paper.
      tag_views: Parts of a tag's vector beside its id: the `words` of its name, the `category` of
        most items that carry it, and `vectors` that a file gives (`data.tag_vectors`). With a view,
        a tag that training never saw has a vector.
      id_dropout: Rate at which a tag's id part is hidden in training with `tag_views`, so that the
        views learn to stand alone.
      num_word_buckets: Number of hash buckets for the words of tags.
      linear_path: `ease`: the scores of a linear model of the history, fitted in closed form, are
        added to the towers' scores with a weight that is chosen on validation users after training
        (0 is a choice). `none`: there is no linear model.
      linear_path_dim: R, the rank of the linear model; at most the number of tags or of training
        users.
      linear_path_max_memory_mb: Memory in MB that fitting the linear model may take, as estimated;
        if it would take more, there is no linear path, and a log line says so.
      dropout: Dropout rate after the hidden layer, in training.
      domain_dropout: Rate at which the whole behaviour of a user is hidden in training, so that
        users without history get a trained answer.
    """

    # Not annotated, so that it is no field. `trainer.contract.config_loader` reads it.
    REMOVED_KEYS = {
        "attention_bias": RemovedKey("Leave it out: the heads share their bias.", "shared"),
        "cross_normalization": RemovedKey(
            "Leave it out: both parts of the crossing are normalised, as `model.norm` says.", "both"
        ),
        "interaction_heads": RemovedKey("Leave it out: `autoint` has two heads.", 2),
        "interaction_layers": RemovedKey("Leave it out: `dcn` and `autoint` have two layers.", 2),
        "last_activation": RemovedKey("Leave it out: the last layer is linear.", "linear"),
    }

    interaction: Literal["utpm", "youtube_dnn", "afm", "nfm", "dcn", "autoint", "bag"] = "utpm"
    pooling: Literal["default", "attention", "average"] = "default"
    embedding_dim: int = 32
    num_heads: int = 2
    attention_dim: int = 32
    cross_dim: int = 8
    hidden_dim: int = 512
    output_dim: int = 128
    norm: Literal["batch", "layer"] = "batch"
    share_tag_embeddings: bool = False
    use_domain_weights: bool = True
    use_domain_totals: bool = True
    log_count_fields: bool = True
    field_residual: bool = True
    click_projection: bool = True
    tag_views: tuple[Literal["words", "category", "vectors"], ...] = ()
    id_dropout: float = 0.1
    num_word_buckets: int = 10_000
    linear_path: Literal["ease", "none"] = "ease"
    linear_path_dim: int = 64
    linear_path_max_memory_mb: int = 2_000
    dropout: float = 0.4
    domain_dropout: float = 0.05

    def __post_init__(self):
        for name in (
            "embedding_dim",
            "num_heads",
            "attention_dim",
            "cross_dim",
            "hidden_dim",
            "output_dim",
            "num_word_buckets",
            "linear_path_dim",
            "linear_path_max_memory_mb",
        ):
            value = getattr(self, name)
            require(value >= 1, name, "be a positive integer", value)
        for name in ("dropout", "domain_dropout", "id_dropout"):
            value = getattr(self, name)
            require(0 <= value < 1, name, "be at least 0 and below 1", value)
        if self.share_tag_embeddings:
            require(
                self.embedding_dim == self.output_dim,
                "share_tag_embeddings",
                "go with `embedding_dim` equal to `output_dim`",
                f"{self.embedding_dim}, {self.output_dim}",
            )

    @property
    def effective_pooling(self) -> Literal["attention", "average"]:
        """The pooling in use: `pooling`, with `default` resolved."""
        if self.pooling != "default":
            return self.pooling
        return "attention" if self.interaction == "utpm" else "average"

    @property
    def effective_heads(self) -> int:
        """Number of vectors of a field: H with attention, one with an average."""
        return self.num_heads if self.effective_pooling == "attention" else 1


_LOSS_WEIGHTS = (
    "multi_class_weight",
    "multi_class_joint_weight",
    "joint_weight",
    "split_weight",
    "attention_weight",
)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Configuration of the objective and its optimisation.

    Attributes:
      multi_class_weight: Weight of the `multi_class` loss over the tag vocabulary; 0: off.
      multi_class_joint_weight: Weight of the `multi_class_joint` loss: a clicked item's tags
        together; 0: off.
      joint_weight: Weight of the `joint` click loss: an item's tags added up; 0: off.
      split_weight: Weight of the `split` click loss: every tag of an item by itself; 0: off.
      attention_weight: Weight of the `attention` click loss: an item's tags pooled; 0: off.
      mask_positives: Whether the other tags that a user clicks later are left out of the softmax
        when one of them is the label.
      user_weighting: Weight of a snapshot in the multi-class losses: `equal` for all, or the square
        root of its later clicks, each counted once for every tag (`sqrt_clicks`).
      full_softmax_max_tags: Number of tags up to which a softmax runs over all of them; with more
        tags it runs over a sample, with logQ correction.
      num_sampled_tags: Number of tags drawn in each step for the sampled softmax.
      sampling_power: Power of a tag's frequency in its probability to be drawn; 0: uniform.
      optimizer: Name of the optimizer.
      learning_rate: Learning rate at the start.
      learning_rate_schedule: Whether the learning rate stays `constant` or falls to 0 over the
        budget along a `cosine`. On MovieLens-1M a constant rate over-trains after 3 epochs.
      batch_size: Largest number of snapshots in a step.
      max_batch_share: Largest share of the training snapshots in one step, so that a small log has
        more than a few steps an epoch; 32 snapshots, or `batch_size` of them, are always allowed.
      max_epochs: Budget of a large log, in epochs.
      budget_steps: Smallest budget, in steps: a log whose `max_epochs` are fewer steps is trained
        on, until validation users stop improving.
      min_steps: Number of steps before which training does not stop.
      max_steps: Largest budget in steps, whatever the epochs; null: no bound.
      evaluation_steps: Steps between two evaluations on validation users; null: an epoch, or a
        twentieth of the budget where that is longer.
      early_stopping_metric: Metric on validation users that chooses the state kept, which may be
        the untrained start: `mean_ndcg_at_10` is the mean of NDCG@10 over all later tags and over
        novel ones, computed with the linear path; the others are computed for the towers alone.
        `click_gauc` suits a training on clicks alone.
      patience: Number of evaluations without improvement after which training stops.
      warm_start: Whether training starts from the last blessed model that was trained on other
        examples; rows of embedding tables are copied by the value that they stand for.
      checkpoint_steps: Steps between two checkpoints beside those after every evaluation; null:
        none.
      max_memory_mb: Memory in MB that training may take in a process, as estimated before it
        begins; a training that would take more is refused, with the numbers. null: no bound.
      strategy: Strategy of `tf.distribute`: `none`; `mirrored`, all GPUs of this machine;
        `multi_worker`, the processes that `TF_CONFIG` names. `batch_size` counts all replicas
        together.
    """

    # Not annotated, so that it is no field. `trainer.contract.config_loader` reads it.
    REMOVED_KEYS = {
        "log_every_steps": RemovedKey(
            "Leave it out: TensorBoard has a point of the training every 50 steps.", 50
        ),
    }

    multi_class_weight: float = 1.0
    multi_class_joint_weight: float = 0.0
    joint_weight: float = 0.3
    split_weight: float = 0.0
    attention_weight: float = 0.0
    mask_positives: bool = False
    user_weighting: Literal["equal", "sqrt_clicks"] = "equal"
    full_softmax_max_tags: int = 50_000
    num_sampled_tags: int = 4_096
    sampling_power: float = 1.0
    optimizer: Literal["adam", "adagrad"] = "adam"
    learning_rate: float = 0.003
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    batch_size: int = 256
    max_batch_share: float = 0.03
    max_epochs: int = 5
    budget_steps: int = 450
    min_steps: int = 200
    max_steps: int | None = None
    evaluation_steps: int | None = None
    early_stopping_metric: EarlyStoppingMetric = MEAN_NDCG
    patience: int = 4
    warm_start: bool = False
    checkpoint_steps: int | None = None
    max_memory_mb: int | None = None
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"

    def __post_init__(self):
        for name in ("checkpoint_steps", "max_memory_mb", "max_steps", "evaluation_steps"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "be a positive integer or null", value)
        weights = {name: getattr(self, name) for name in _LOSS_WEIGHTS}
        for name, value in weights.items():
            require(value >= 0, name, "be 0 or positive", value)
        require(
            sum(weights.values()) > 0,
            "multi_class_weight",
            "be positive when all other weights of losses are 0",
            self.multi_class_weight,
        )
        require(
            self.early_stopping_metric != CLICK_GAUC.name or self.click_objective is not None,
            "early_stopping_metric",
            "not be of clicks without a click loss",
            self.early_stopping_metric,
        )
        require(self.sampling_power >= 0, "sampling_power", "be 0 or positive", self.sampling_power)
        require(self.learning_rate > 0, "learning_rate", "be positive", self.learning_rate)
        for name in (
            "batch_size",
            "max_epochs",
            "patience",
            "full_softmax_max_tags",
            "num_sampled_tags",
        ):
            value = getattr(self, name)
            require(value >= 1, name, "be a positive integer", value)
        for name in ("budget_steps", "min_steps"):
            value = getattr(self, name)
            require(value >= 0, name, "be 0 or positive", value)
        require(
            0 < self.max_batch_share <= 1,
            "max_batch_share",
            "be above 0 and at most 1",
            self.max_batch_share,
        )
        require(
            self.max_steps is None or self.max_steps >= self.min_steps,
            "max_steps",
            f"be at least `min_steps` ({self.min_steps}) or null",
            self.max_steps,
        )

    @property
    def click_objective(self) -> Literal["joint", "split", "attention"] | None:
        """The click loss with the highest weight, which scores items; None: no click loss."""
        weights: dict[Literal["joint", "split", "attention"], float] = {
            "joint": self.joint_weight,
            "split": self.split_weight,
            "attention": self.attention_weight,
        }
        best = max(weights, key=lambda name: weights[name])
        return best if weights[best] > 0 else None


@dataclasses.dataclass(frozen=True)
class RankingConfig:
    """Configuration of the second stage, which orders the tags that retrieval proposes.

    Attributes:
      score: Score that orders the tags: `multi_class`, `click`, a `mix` of both in equal parts, or
        `validation`: the best of nine scores (1 - w) * multi-class logit + w * click logit, with w
        from 0 to 1, on validation users by `training.early_stopping_metric`.
      num_candidates: N, number of tags that retrieval by the multi-class score proposes; all tags
        where there are fewer; at least `index.k`.
      memory: Weight of the tags' shares in the user's own history as a part of the score: the best
        one on `validation` users (which may be 0), or `none`. Only domains of clicked events with
        the vocabulary `tags` are used.
    """

    # Not annotated, so that it is no field. `trainer.contract.config_loader` reads it.
    REMOVED_KEYS = {
        "click_weight": RemovedKey(
            "Leave it out: `ranking.score: validation` chooses the weight, `mix` is equal parts.",
            0.5,
        ),
    }

    score: Literal["validation", "multi_class", "click", "mix"] = "validation"
    num_candidates: int = 200
    memory: Literal["validation", "none"] = "validation"

    def __post_init__(self):
        require(
            self.num_candidates >= 1,
            "num_candidates",
            "be a positive integer",
            self.num_candidates,
        )
