"""The trainings of a study of defaults: samples, defaults and seeds, each training once."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.study.grid.defaults_definition import DefaultsStudy, Sample
from tfx_pipeline.study.trials.trial import TrialDefinition
from tfx_pipeline.study.trials.trials import Trial


@dataclasses.dataclass(frozen=True)
class DefaultsTrial(Trial[TrialDefinition]):
    """One training, for all defaults with its definition.

    Attributes:
      defaults: Names of these defaults.
    """

    defaults: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Data set and defaults in words, without the seed."""
        return f"{self.data_set} · {', '.join(self.defaults)}"


def data_set_configs(study: DefaultsStudy, samples: Sequence[Sample]) -> dict[str, PipelineConfig]:
    """Returns the configuration of each data set, by sample; that of its own features first."""
    found: dict[str, PipelineConfig] = {}
    for sample in samples:
        found[sample.name] = study.sample_config(sample)
        for default in study.config.defaults:
            found.setdefault(study.data_set(sample, default), study.trial_config(sample, default))
    return found


def defaults_trials(
    study: DefaultsStudy, samples: Sequence[Sample], fingerprints: Mapping[str, str]
) -> dict[tuple[str, str], DefaultsTrial]:
    """Builds the trainings of a study, data set by data set.

    Args:
      study: Checked study.
      samples: Samples whose tables exist.
      fingerprints: Hashes of the prepared examples, by data set.

    Returns:
      Each training once, by data set and key.
    """
    found: dict[tuple[str, str], DefaultsTrial] = {}
    for sample in samples:
        for default in study.config.defaults:
            data_set = study.data_set(sample, default)
            for definition in trial_definitions(study, sample, default, fingerprints[data_set]):
                name = (data_set, definition.key)
                known = found[name].defaults if name in found else ()
                found[name] = DefaultsTrial(data_set, (), definition, (*known, default))
    order = {data_set: i for i, data_set in enumerate(fingerprints)}
    return dict(sorted(found.items(), key=lambda item: order[item[0][0]]))


def trial_definitions(
    study: DefaultsStudy, sample: Sample, default: str, fingerprint: str
) -> Iterator[TrialDefinition]:
    """Yields the trainings of a default on a sample, one per seed."""
    config = study.trial_config(sample, default)
    for seed in study.config.seeds:
        yield TrialDefinition(
            examples=fingerprint,
            features=config.features,
            model=config.model,
            training=config.training,
            ranking=config.ranking,
            seed=seed,
        )
