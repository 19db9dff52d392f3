"""The part of a study on tags without history: its trainings and results.

Every tower is trained with its views and without them. Each seed holds out other tags: how hard the
tags are is a larger uncertainty than the initial weights, and the deviation over the seeds is to
include it. All towers of a seed lack the same tags.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfx_pipeline.fingerprints import code_fingerprint
from tfx_pipeline.study.grid.config import Cell, NewTagsConfig
from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.trials.data_sets import DataSets
from tfx_pipeline.study.trials.held_out_tags import HeldOutDefinition, run_held_out
from tfx_pipeline.study.trials.new_tags_results import (
    BASELINES,
    ID_ONLY,
    VIEWS,
    NewTagsResults,
    NewTagsRun,
)
from tfx_pipeline.study.trials.trial_loop import announce, train_pending
from tfx_pipeline.study.trials.trial_store import TrialStore, pending_trials
from tfx_pipeline.study.trials.trials import Trial
from tfx_pipeline.terminal.console import Console
from trainer.config import ModelConfig, RankingConfig
from trainer.contract.metric_registry import RECALL, label

TRIALS_DIR = "new_tags"
CODE = "tfx_pipeline.study.trials.held_out_tags"
_SHOWN = {
    f"eval.{who}.{RECALL.at(10)}": f"{who.replace('_', ' ')} {label(RECALL.at(10))}"
    for who in (VIEWS, ID_ONLY, *BASELINES)
}


def run_new_tags(
    study: Study,
    config: NewTagsConfig,
    data_sets: DataSets,
    accept_changed_code: bool,
    console: Console,
) -> tuple[NewTagsResults, int]:
    """Trains the missing trials of the study on new tags.

    Args:
      study: Checked study.
      config: Section `new_tags` of the study.
      data_sets: Prepared data sets.
      accept_changed_code: Whether trials finished by other code count as finished.
      console: Console for progress.

    Returns:
      All results, and the number of trials trained now.

    Raises:
      ValueError: `new_tags.fraction` holds out all tags or none.
    """
    console.line("tags without history")
    trials = new_tags_trials(
        study, config, data_sets.examples(config.data_set).fingerprint_with_clicks
    )
    store = TrialStore(Path(study.config.output_dir) / TRIALS_DIR)
    code = code_fingerprint(CODE)
    pending = pending_trials(trials, store, code, accept_changed_code)
    notes = announce(pending, accept_changed_code, console)
    train_pending(pending, len(trials), data_sets, store, code, run_held_out, _SHOWN, console)
    runs = tuple(_runs(study, config, trials, store))
    return NewTagsResults(config, runs, tuple(notes)), len(pending.trials)


def new_tags_trials(
    study: Study, config: NewTagsConfig, fingerprint: str
) -> list[Trial[HeldOutDefinition]]:
    """Builds the trainings: every tower with and without views, all seeds of one before the next.

    Args:
      study: Checked study.
      config: Section `new_tags` of the study.
      fingerprint: Hash of the prepared examples, including the clicks by tag.

    Returns:
      Each training once; towers that differ only in their views share the one without.
    """
    features = study.pipeline_config(config.data_set).features
    trials: dict[str, Trial[HeldOutDefinition]] = {}
    for tower in config.towers:
        cell = Cell(tower, config.objective, config.data_set)
        model = study.model_config(tower)
        for one in (model, without_views(model)):
            for seed in study.config.seeds:
                definition = HeldOutDefinition(
                    examples=fingerprint,
                    features=features,
                    model=one,
                    training=study.training_config(config.objective),
                    ranking=RankingConfig(),
                    seed=seed,
                    fraction=config.fraction,
                )
                known = trials[definition.key].cells if definition.key in trials else ()
                trials[definition.key] = Trial(config.data_set, (*known, cell), definition)
    return list(trials.values())


def without_views(model: ModelConfig) -> ModelConfig:
    """Returns the same towers with tags by ids alone; options of views have their defaults."""
    default = ModelConfig()
    return dataclasses.replace(
        model,
        tag_views=(),
        id_dropout=default.id_dropout,
        num_word_buckets=default.num_word_buckets,
    )


def _runs(
    study: Study,
    config: NewTagsConfig,
    trials: Sequence[Trial[HeldOutDefinition]],
    store: TrialStore,
) -> Iterator[NewTagsRun]:
    """Yields every tower with every seed, in their order."""
    by_name = {
        (cell.tower, trial.definition.seed, bool(trial.definition.model.tag_views)): trial
        for trial in trials
        for cell in trial.cells
    }
    for tower in config.towers:
        for seed in study.config.seeds:
            definitions = {
                who: by_name[tower, seed, who == VIEWS].definition for who in (VIEWS, ID_ONLY)
            }
            yield NewTagsRun(
                tower,
                seed,
                {who: definition.key for who, definition in definitions.items()},
                {who: store.finished(definition) for who, definition in definitions.items()},
            )
