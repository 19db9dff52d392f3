"""One trial of tags without history: some tags are held out of a training, then scored.

The code that these trials depend on is this module and its imports. No trial of the grid imports
it, so that those stay finished when this module changes.
"""

import dataclasses
import time

import tf_keras

from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.hidden_tags import held_out_tags_experiment
from tfx_pipeline.study.trials.training import PREFIXES
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialDefinition, TrialOutcome
from trainer.parameter_count import count_parameters


@dataclasses.dataclass(frozen=True)
class HeldOutDefinition(TrialDefinition):
    """All settings that a training with held-out tags depends on besides the code.

    Its seed also draws the tags. New tags are ranked by the towers alone, so `ranking` has no
    effect and keeps its defaults.

    Attributes:
      fraction: Share of the tags that are held out.
    """

    fraction: float


def run_held_out(
    definition: HeldOutDefinition, examples: StudyExamples, code: str
) -> FinishedTrial:
    """Trains without some tags, and scores those for validation and test users.

    Args:
      definition: Definition of the training.
      examples: Examples of the data set, with all tags.
      code: Fingerprint of the code, stored beside the figures.

    Returns:
      The finished trial, with figures under `eval.<who>.` and `eval_validation.<who>.`, by the
      names of `tfx_pipeline.study.trials.hidden_tags`.
    """
    started = time.perf_counter()
    # Discards the state of the previous trial: its graphs in memory and its random numbers.
    tf_keras.backend.clear_session()
    result = held_out_tags_experiment(
        examples,
        definition.model,
        definition.training,
        seed=definition.seed,
        fraction=definition.fraction,
    )
    counts = count_parameters(result.model)
    outcome = TrialOutcome(
        parameters=counts.without_embeddings,
        embedding_parameters=counts.embeddings,
        examples_per_second=result.fit.examples_per_second,
        steps=result.fit.steps,
        best_step=result.fit.best_step,
        click_weight=0.0,
        seconds=time.perf_counter() - started,
        metrics={
            f"{PREFIXES[split]}.{who}.{name}": value
            for split, by_who in result.figures.items()
            for who, figures in by_who.items()
            for name, value in figures.items()
        },
    )
    return FinishedTrial(code, outcome, {})
