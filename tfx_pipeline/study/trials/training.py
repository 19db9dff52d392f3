"""One trial: a fresh model, fitted, and scored on validation and test users.

The code that trials depend on is this module and its imports; its fingerprint is stored beside
every trial.
"""

import time

import tf_keras

from tfx_pipeline.study.trials.evaluation import evaluate_stages
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.trial import FinishedTrial, TrialDefinition, TrialOutcome
from trainer.config import ModelConfig, TrainingConfig
from trainer.evaluation.linear_path import add_linear_path, fit_path
from trainer.evaluation.second_stage import choose_second_stage
from trainer.fitting.loop import fit
from trainer.model import InterestModel
from trainer.parameter_count import count_parameters

# Prefixes of the report, by split.
PREFIXES = {"test": "eval", "validation": "eval_validation"}


def make_model(
    examples: StudyExamples, model: ModelConfig, training: TrainingConfig, seed: int
) -> InterestModel:
    """Creates a model for a data set, with its initial weights.

    Args:
      examples: Examples of the data set.
      model: Configuration of the towers.
      training: Configuration of the objective.
      seed: Seed of the initial weights.

    Returns:
      A fresh model.
    """
    return InterestModel(
        examples.spec,
        examples.vocabulary_sizes,
        len(examples.tags.tags),
        model,
        training,
        seed=seed,
        tag_frequencies=examples.tag_frequencies,
        tag_attributes=examples.tags,
    )


def parameters_of(examples: StudyExamples, model: ModelConfig, training: TrainingConfig) -> int:
    """Counts the parameters of a model outside its embedding tables."""
    return count_parameters(make_model(examples, model, training, seed=0)).without_embeddings


def run_trial(definition: TrialDefinition, examples: StudyExamples, code: str) -> FinishedTrial:
    """Trains and evaluates the model of a trial.

    Args:
      definition: Definition of the training.
      examples: Examples of its data set.
      code: Fingerprint of the code, stored beside the figures.

    Returns:
      The finished trial; the same definition gives the same figures, except for times.
    """
    started = time.perf_counter()
    # Discards the state of the previous trial: its graphs in memory and its random numbers.
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(definition.seed)
    model = make_model(examples, definition.model, definition.training, definition.seed)
    validation = examples.splits["validation"]
    train, num_tags = examples.splits["train"], len(examples.tags.tags)
    path, note = fit_path(definition.model, examples.spec, num_tags, train, validation)
    result = fit(model, train, validation, definition.seed, path=path)
    add_linear_path(model, path, note, validation)
    stage = choose_second_stage(model, validation, definition.ranking)
    figures = {split: evaluate_stages(model, examples.splits[split], stage) for split in PREFIXES}
    counts = count_parameters(model)
    outcome = TrialOutcome(
        parameters=counts.without_embeddings,
        embedding_parameters=counts.embeddings,
        examples_per_second=result.examples_per_second,
        steps=result.steps,
        best_step=result.best_step,
        click_weight=stage.click_weight,
        seconds=time.perf_counter() - started,
        metrics={
            f"{PREFIXES[split]}.{who}.{name}": value
            for split, by_who in figures.items()
            for who, one in by_who.items()
            for name, value in one.metrics.items()
        },
    )
    by_user = {
        f"{who}.{name}": values
        for who, one in figures["test"].items()
        for name, values in one.by_user.items()
    }
    return FinishedTrial(code, outcome, by_user)
