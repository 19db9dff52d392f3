"""Results of a study of defaults: by log and default, beside every baseline.

Figures are of test users, except for the ranks, which are of validation users: a default is to be
chosen by the ranks.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import stats

from tfx_pipeline.evaluation.paired_comparison import PairedComparison, compare_users
from tfx_pipeline.study.grid.defaults_definition import Sample
from tfx_pipeline.study.statistics import CONFIDENCE, Mean, mean_of
from tfx_pipeline.study.trials.baseline_figures import BaselineFigures
from tfx_pipeline.study.trials.trial import FinishedTrial
from trainer.evaluation.baselines_config import BASELINES

# `undefined`: fewer than two users have a value on both sides.
Verdict = Literal["above", "not separate", "below", "undefined"]
VERDICTS: tuple[Verdict, ...] = ("above", "not separate", "below")


@dataclasses.dataclass(frozen=True)
class DefaultRun:
    """One seed of a default on a sample.

    Attributes:
      sample: Log, or a draw of it.
      default: Name of the default.
      seed: Seed of the training.
      data_set: Name of the prepared examples.
      trial: Key of the training; defaults with the same definition share it.
      finished: Finished training with its figures.
      users: Ids of the test users, in the order of the figures by user.
    """

    sample: Sample
    default: str
    seed: int
    data_set: str
    trial: str
    finished: FinishedTrial
    users: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Returns the run in the form of `study.json`."""
        outcome = self.finished.outcome
        return {
            "log": self.sample.log,
            "draw": self.sample.draw,
            "default": self.default,
            "seed": self.seed,
            "data_set": self.data_set,
            "trial": self.trial,
            "metrics": {
                name: value
                for name, value in outcome.metrics.items()
                if name.split(".")[1] == "model"
            },
            "parameters": outcome.parameters,
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "click_weight": outcome.click_weight,
            "seconds": outcome.seconds,
        }


@dataclasses.dataclass(frozen=True)
class SampleBaselines:
    """The figures of the baselines on the test users of a sample.

    Attributes:
      figures: Figures by seed and name.
      users: Ids of the test users, in the order of the figures by user.
    """

    figures: BaselineFigures
    users: np.ndarray


@dataclasses.dataclass(frozen=True)
class Against:
    """The comparison of a default with another ranking on one log, over the same users.

    Attributes:
      log: Name of the log.
      default: Name of the default.
      other: Name of a baseline or of another default.
      metric: Name of the metric.
      comparison: Comparison over the users, each with the mean over the seeds and draws that
        include them.
    """

    log: str
    default: str
    other: str
    metric: str
    comparison: PairedComparison

    @property
    def verdict(self) -> Verdict:
        """Position of the default, by the interval over users."""
        if self.comparison.low is None:
            return "undefined"
        if self.comparison.is_above:
            return "above"
        return "below" if self.comparison.is_below else "not separate"

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison in the form of `study.json`."""
        one = self.comparison
        return {
            "log": self.log,
            "default": self.default,
            "against": self.other,
            "metric": self.metric,
            "num_users": one.num_users,
            "difference": one.difference,
            "low": one.low,
            "high": one.high,
            "verdict": self.verdict,
        }


@dataclasses.dataclass(frozen=True)
class DefaultsResults:
    """All results of a study of defaults.

    Attributes:
      runs: Runs by sample, then default, then seed.
      baselines: Figures of the baselines by sample.
      metrics: Compared metrics.
    """

    runs: tuple[DefaultRun, ...]
    baselines: Mapping[Sample, SampleBaselines]
    metrics: tuple[str, ...]

    @property
    def logs(self) -> tuple[str, ...]:
        """Names of the logs, each once."""
        return tuple(dict.fromkeys(run.sample.log for run in self.runs))

    @property
    def defaults(self) -> tuple[str, ...]:
        """Names of the defaults, each once."""
        return tuple(dict.fromkeys(run.default for run in self.runs))

    def samples(self, log: str) -> tuple[Sample, ...]:
        """Returns the samples of a log."""
        return tuple(sample for sample in self.baselines if sample.log == log)

    def baselines_of(self, log: str) -> tuple[str, ...]:
        """Returns the baselines that every sample of a log has, without chance."""
        known = [next(iter(self.baselines[s].figures.values())) for s in self.samples(log)]
        return tuple(
            who for who in BASELINES if who != "random" and all(who in one for one in known)
        )

    def num_users(self, log: str) -> int:
        """Returns the number of different test users of a log."""
        ids = [self.baselines[sample].users for sample in self.samples(log)]
        return len(np.unique(np.concatenate(ids)))

    def mean(self, log: str, who: str, metric: str, split: str = "eval") -> Mean | None:
        """Computes mean and deviation over draws and seeds; for a baseline over draws.

        Args:
          log: Name of the log.
          who: Name of a default or a baseline.
          metric: Name of the metric.
          split: Prefix of a default's metrics: `eval` for test users, or `eval_validation`.

        Returns:
          The mean; None where any of the values is undefined.
        """
        if who in self.defaults:
            values = [
                run.finished.outcome.metrics.get(f"{split}.model.{metric}")
                for run in self._runs(log, who)
            ]
        else:
            figures = [self._baseline(sample, who) for sample in self.samples(log)]
            values = [one.metrics.get(metric) for one in figures]
        defined = [value for value in values if value is not None]
        return mean_of(defined) if defined and len(defined) == len(values) else None

    def best_baseline(self, log: str, metric: str) -> str | None:
        """Returns the baseline with the highest mean on test users, the hardest to exceed."""
        means = {who: self.mean(log, who, metric) for who in self.baselines_of(log)}
        known = {who: mean.mean for who, mean in means.items() if mean is not None}
        return max(known, key=lambda who: known[who]) if known else None

    def against(self, log: str, default: str, other: str, metric: str) -> Against:
        """Compares a default with a baseline or another default, user by user."""
        first, second = (self._by_user(log, who, metric) for who in (default, other))
        common = sorted(first.keys() & second.keys())
        pairs = [np.array([one[name] for name in common], np.float64) for one in (first, second)]
        comparison = compare_users(pairs[0], pairs[1], CONFIDENCE)
        return Against(log, default, other, metric, comparison)

    def comparisons(self) -> Iterator[Against]:
        """Compares every default on every log with every baseline, and with the first default."""
        for log in self.logs:
            for default in self.defaults:
                others = [*self.baselines_of(log), *({self.defaults[0]} - {default})]
                for other in others:
                    for metric in self.metrics:
                        if self.mean(log, other, metric) is not None:
                            yield self.against(log, default, other, metric)

    def ranks(self, metric: str) -> dict[str, float | None]:
        """Computes the mean rank of each default over the logs, on validation users; 1: the best.

        Args:
          metric: Name of a metric of the model as it would be served.

        Returns:
          Mean ranks by default; None where the metric is undefined on every log.
        """
        ranks: dict[str, list[float]] = {default: [] for default in self.defaults}
        for log in self.logs:
            means = {d: self.mean(log, d, metric, "eval_validation") for d in self.defaults}
            known = {default: mean.mean for default, mean in means.items() if mean is not None}
            found = stats.rankdata([-value for value in known.values()])
            for default, rank in zip(known, found, strict=True):
                ranks[default].append(float(rank))
        return {
            default: float(np.mean(found)) if found else None for default, found in ranks.items()
        }

    def _runs(self, log: str, default: str) -> list[DefaultRun]:
        return [run for run in self.runs if run.sample.log == log and run.default == default]

    def _baseline(self, sample: Sample, who: str) -> Any:
        return next(iter(self.baselines[sample].figures.values()))[who]

    def _by_user(self, log: str, who: str, metric: str) -> dict[Any, float]:
        """Returns each user's mean over seeds and draws, by id; without users who have no value."""
        key = (log, who, metric)
        if key not in self._known_by_user:
            if who in self.defaults:
                parts = [
                    (run.users, run.finished.by_user.get(f"model.{metric}"))
                    for run in self._runs(log, who)
                ]
            else:
                parts = [
                    (self.baselines[s].users, self._baseline(s, who).by_user.get(metric))
                    for s in self.samples(log)
                ]
            self._known_by_user[key] = _means_by_user(
                [(users, values) for users, values in parts if values is not None]
            )
        return self._known_by_user[key]

    @functools.cached_property
    def _known_by_user(self) -> dict[tuple[str, str, str], dict[Any, float]]:
        return {}


def _means_by_user(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[Any, float]:
    if not parts:
        return {}
    values = np.concatenate([part for _, part in parts]).astype(np.float64)
    is_there = ~np.isnan(values)
    users, rows = np.unique(
        np.concatenate([part for part, _ in parts])[is_there], return_inverse=True
    )
    means = np.bincount(rows, values[is_there], len(users)) / np.bincount(rows, None, len(users))
    return dict(zip(users.tolist(), means.tolist(), strict=True))


def counts_by_verdict(comparisons: Sequence[Against]) -> dict[Verdict, int]:
    """Counts comparisons by verdict; undefined ones do not count."""
    return {verdict: sum(one.verdict == verdict for one in comparisons) for verdict in VERDICTS}
