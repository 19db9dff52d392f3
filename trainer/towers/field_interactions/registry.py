"""Makes the interaction that a configuration names."""

from collections.abc import Callable, Iterator

import tensorflow as tf

from trainer.config import ModelConfig
from trainer.contract.config_loader import require
from trainer.towers.domain_attention import InterDomainAttention
from trainer.towers.feature_cross import FeatureCross
from trainer.towers.field_interactions.attention_crossing import AttentionCrossing
from trainer.towers.field_interactions.attentional_fm import AttentionalFM
from trainer.towers.field_interactions.concatenation import Concatenation
from trainer.towers.field_interactions.cross_network import CrossNetwork
from trainer.towers.field_interactions.interaction import Interaction
from trainer.towers.field_interactions.neural_fm import NeuralFM
from trainer.towers.field_interactions.self_attention import SelfAttention

# Names of the weights that interactions return from `attention`.
ATTENTION_NAMES = frozenset({"fields", "field_pairs", "field_self_attention"})

# Layers of `dcn` and `autoint`, and heads of `autoint`: small numbers, as in the study
# (docs/results.md); the widths of the model determine the size of these towers.
NUM_LAYERS = 2
NUM_HEADS = 2

_Maker = Callable[[ModelConfig, Iterator[int], tf.Variable | None], Interaction]


def _utpm(
    config: ModelConfig, seeds: Iterator[int], queries: tf.Variable | None
) -> AttentionCrossing:
    attention = None
    if config.effective_pooling == "attention":
        attention = InterDomainAttention(
            config.num_heads, config.attention_dim, seed=next(seeds), name="inter"
        )
    cross = FeatureCross(config.cross_dim, config.norm, seed=next(seeds), name="cross")
    return AttentionCrossing(cross, attention, queries, name="utpm")


_MAKERS: dict[str, _Maker] = {
    "utpm": _utpm,
    "youtube_dnn": lambda config, seeds, _: Concatenation(config.norm, name="youtube_dnn"),
    "afm": lambda config, seeds, _: AttentionalFM(
        config.attention_dim, config.norm, seed=next(seeds), name="afm"
    ),
    "nfm": lambda config, seeds, _: NeuralFM(config.norm, name="nfm"),
    "dcn": lambda config, seeds, _: CrossNetwork(
        NUM_LAYERS, config.norm, seed=next(seeds), name="dcn"
    ),
    "autoint": lambda config, seeds, _: SelfAttention(
        NUM_LAYERS,
        NUM_HEADS,
        config.attention_dim,
        config.norm,
        seed=next(seeds),
        name="autoint",
    ),
}


def make_interaction(
    config: ModelConfig, seeds: Iterator[int], queries: tf.Variable | None = None
) -> Interaction:
    """Makes the interaction that `config` names.

    Args:
      config: Configuration of the model.
      seeds: Seeds of the initial values.
      queries: float [H, A], query vectors of the attention within domains; None with an average.

    Returns:
      A fresh layer.

    Raises:
      ValueError: The interaction does not work on fields (`bag`).
    """
    require(
        config.interaction in _MAKERS,
        "interaction",
        f"be one of {', '.join(_MAKERS)}",
        config.interaction,
    )
    return _MAKERS[config.interaction](config, seeds, queries)
