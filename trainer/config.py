"""Configuration of model and training: frozen dataclasses, checked where they are made."""

import dataclasses
from typing import Literal

from trainer.config_loader import require


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two towers; symbols are those of docs/model.md.

    Attributes:
      interaction: How the user tower combines the domains (`utpm`: attention and feature crossing).
      embedding_dim: E, size of every feature embedding.
      num_heads: H, heads of the domain attention.
      attention_dim: A, size of the attention's hidden layer and of its query vectors.
      cross_dim: C, size of the latent vectors of the feature crossing.
      hidden_dim: D, width of the first fully connected layer.
      output_dim: U, size of user and tag vectors.
      attention_bias: Whether the heads share the bias of the attention's hidden layer.
      cross_normalization: Which parts of the crossing are normalised.
      norm: How: `batch` takes away what all users have in common, `layer` works within a user.
      last_activation: Activation of the last fully connected layer.
      share_tag_embeddings: Whether domains of tags use the label-side tag table's ids *and* weights
        (needs `embedding_dim` equal to `output_dim`).
      use_domain_weights: Whether a value's weight multiplies its attention (a value seen n times
        counts as n values, so that no history is lost to deduplication).
      use_domain_totals: Whether the logarithm of a domain's total weight is a field of its own: a
        softmax forgets how long a history is.
      log_count_fields: Whether each domain is a second field, pooled by an attention of its own
        with log(1 + weight) as the multiplicity: counts follow the popularity of values, their
        logarithm shows the rarer ones that tell users apart. Beyond the paper.
      field_residual: Whether the hidden layer also sees every field's own vector beside the crossed
        features. Beyond the paper, whose attention over domains averages them away.
      click_projection: Whether the click head sees the user's vector through a linear map of its
        own, so that ranking clicks and finding tags need not agree on one vector. Beyond the paper.
      dropout: Rate after the hidden layer, in training.
      domain_dropout: Rate at which the whole behaviour of a user is hidden in training, so that
        users without history get a trained answer.
    """

    interaction: Literal["utpm"] = "utpm"
    embedding_dim: int = 32
    num_heads: int = 2
    attention_dim: int = 32
    cross_dim: int = 8
    hidden_dim: int = 512
    output_dim: int = 128
    attention_bias: Literal["shared", "per_head"] = "shared"
    cross_normalization: Literal["both", "linear", "none"] = "both"
    norm: Literal["batch", "layer"] = "batch"
    last_activation: Literal["linear", "relu"] = "linear"
    share_tag_embeddings: bool = False
    use_domain_weights: bool = True
    use_domain_totals: bool = True
    log_count_fields: bool = True
    field_residual: bool = True
    click_projection: bool = True
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
        ):
            value = getattr(self, name)
            require(value >= 1, name, "be a positive integer", value)
        for name in ("dropout", "domain_dropout"):
            value = getattr(self, name)
            require(0 <= value < 1, name, "be at least 0 and below 1", value)
        if self.share_tag_embeddings:
            require(
                self.embedding_dim == self.output_dim,
                "share_tag_embeddings",
                "go with `embedding_dim` equal to `output_dim`",
                f"{self.embedding_dim}, {self.output_dim}",
            )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The objective and its optimisation.

    Attributes:
      multi_class_weight: Weight of the `multi_class` loss (full softmax over the tag vocabulary);
        0: off.
      joint_weight: Weight of the `joint` click loss; 0: off.
      optimizer: Name of the optimizer.
      learning_rate: Its learning rate, at the start.
      learning_rate_schedule: Whether it stays `constant` or falls to 0 over `max_epochs` along a
        `cosine`. On MovieLens-1M a constant rate over-trains after 3 epochs.
      batch_size: Snapshots a step.
      max_epochs: Upper bound of epochs.
      early_stopping_metric: Metric on validation users that chooses the epoch kept.
      patience: Epochs without improvement after which training stops.
      log_every_steps: Steps between two TensorBoard points.
    """

    multi_class_weight: float = 1.0
    joint_weight: float = 0.3
    optimizer: Literal["adam", "adagrad"] = "adam"
    learning_rate: float = 0.003
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    batch_size: int = 256
    max_epochs: int = 5
    early_stopping_metric: Literal["precision_at_10", "ndcg_at_10", "novel_precision_at_10"] = (
        "ndcg_at_10"
    )
    patience: int = 2
    log_every_steps: int = 50

    def __post_init__(self):
        for name in ("multi_class_weight", "joint_weight"):
            value = getattr(self, name)
            require(value >= 0, name, "be 0 or positive", value)
        require(
            self.multi_class_weight + self.joint_weight > 0,
            "multi_class_weight",
            "be positive when `joint_weight` is 0",
            self.multi_class_weight,
        )
        require(self.learning_rate > 0, "learning_rate", "be positive", self.learning_rate)
        for name in ("batch_size", "max_epochs", "patience", "log_every_steps"):
            value = getattr(self, name)
            require(value >= 1, name, "be a positive integer", value)
