"""A study of defaults prepares and trains each thing once, for any number of defaults."""

import pytest

from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.study.grid.defaults_config import DefaultConfig, DefaultsConfig, LogConfig
from tfx_pipeline.study.grid.defaults_definition import DefaultsStudy
from tfx_pipeline.study.trials.defaults_trials import data_set_configs, defaults_trials

DEFAULTS = {
    "recent": DefaultConfig(recent_days=3),
    "plain": DefaultConfig(),
    "wide": DefaultConfig(model={"hidden_dim": 99}),
    "same": DefaultConfig(model={"interaction": "utpm"}),
}


@pytest.fixture(scope="module")
def study():
    logs = {
        "all": LogConfig("demo", demo=DemoConfig()),
        "few": LogConfig("demo", demo=DemoConfig(), num_users=9, draws=(5,)),
    }
    config = DefaultsConfig("s", logs, DEFAULTS, seeds=(0, 7))
    return DefaultsStudy(config, {log: load_config("demo") for log in logs})


def test_examples_are_prepared_once_for_each_sample_and_set_of_features(study):
    configs = data_set_configs(study, study.samples)

    # The sample's own features come first: baselines use them.
    assert list(configs) == ["all", "all.with_recent", "few.draw_5", "few.draw_5.with_recent"]
    assert [config.output_dir for config in configs.values()] == [
        f"build/studies/s/data/{name}" for name in configs
    ]
    recent = [domain.name for domain in configs["all.with_recent"].features.domains]
    assert "recent_clicked_tags" in recent


def test_every_default_is_trained_with_every_seed_and_equal_ones_once(study):
    names = list(data_set_configs(study, study.samples))

    trials = list(
        defaults_trials(study, study.samples, {name: f"of {name}" for name in names}).values()
    )

    assert [(t.data_set, t.defaults, t.definition.seed) for t in trials] == [
        (data_set, defaults, seed)
        for sample in ("all", "few.draw_5")
        for data_set, defaults in (
            (sample, ("plain", "same")),
            (sample, ("wide",)),
            (f"{sample}.with_recent", ("recent",)),
        )
        for seed in (0, 7)
    ]
    assert all(t.definition.examples == f"of {t.data_set}" for t in trials)
    assert trials[2].definition.model.hidden_dim == 99
    assert trials[0].title == "all · plain, same"
    assert len({t.definition.key for t in trials}) == len(trials)


def test_samples_whose_tables_are_not_there_are_not_trained(study):
    few = study.samples[1:]
    names = list(data_set_configs(study, few))

    trials = defaults_trials(study, few, dict.fromkeys(names, "x"))

    assert {trial.data_set for trial in trials.values()} == {"few.draw_5", "few.draw_5.with_recent"}
