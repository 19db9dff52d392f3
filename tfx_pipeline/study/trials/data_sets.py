"""The data sets of a study: each prepared once, and one at a time held in memory."""

from collections.abc import Callable, Iterable

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.runs.prepared_examples import PreparedExamples, prepare_examples
from tfx_pipeline.study.trials.baseline_figures import BaselineFigures, baseline_figures
from tfx_pipeline.study.trials.examples import StudyExamples, load_examples
from tfx_pipeline.tables.tag_vectors import tag_vectors_file
from tfx_pipeline.terminal.console import Console
from trainer.evaluation.fitted_baselines import fit_baselines


class DataSets:
    """Prepared examples of a study by name of the data set.

    Args:
      config_of: Function that returns the pipeline configuration of a data set.
      seeds: Seeds of the random baseline.
      console: Console for progress.
    """

    def __init__(
        self, config_of: Callable[[str], PipelineConfig], seeds: Iterable[int], console: Console
    ):
        self._config_of = config_of
        self._seeds = tuple(seeds)
        self._console = console
        self._prepared: dict[str, PreparedExamples] = {}
        self._loaded: tuple[str, StudyExamples] | None = None

    def prepare(self, names: Iterable[str]) -> None:
        """Runs the pipeline's nodes up to Transform, or takes their outputs from the cache.

        Raises:
          ValueError: A user's mistake, in one line.
        """
        for name in names:
            config = self._config_of(name)
            self._console.line(f"examples of data set {name}, in {config.output_dir}")
            self._prepared[name] = prepare_examples(config, self._console)

    def examples(self, name: str) -> StudyExamples:
        """Returns the examples of a prepared data set in memory, replacing those of another."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            prepared = self._prepared[name]
            config = self._config_of(name)
            examples = load_examples(
                prepared.transformed_dir,
                prepared.transform_dir,
                prepared.tags_path,
                config.features,
                tag_vectors_file(config.data, config.output_dir),
            )
            self._loaded = (name, examples)
        return self._loaded[1]

    def baselines(self, name: str) -> BaselineFigures:
        """Returns the figures of the baselines, by seed."""
        examples = self.examples(name)
        fitted = fit_baselines(
            examples.tag_clicks,
            examples.splits["train"],
            examples.splits["validation"],
            examples.spec,
            self._config_of(name).baselines,
        )
        for who, reason in fitted.skipped.items():
            self._console.line(f"baseline {who} of data set {name} is left out: {reason}")
        return baseline_figures(
            fitted, examples.splits["test"], len(examples.tag_clicks), self._seeds
        )
