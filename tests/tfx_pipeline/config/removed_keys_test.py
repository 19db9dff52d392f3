"""Removed keys are refused in a user's file, and ignored in files that were saved before."""

import re
from pathlib import Path

import pytest
import yaml

from tfx_pipeline.config.pipeline import PipelineConfig, load_config
from tfx_pipeline.reference.configuration import configuration_reference, removed_keys
from trainer.contract.config_loader import from_saved, to_mapping

ROOT = Path(__file__).resolve().parents[3]
MINIMAL = {
    "name": "log",
    "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
    "features": {"domains": [{"name": "clicked"}]},
}
# Each key, its last default and another value; None: nothing is built in for it.
REMOVED = {
    "examples.max_snapshot_fraction": (0.95, 0.9),
    "examples.min_snapshot_fraction": (0.0, 0.1),
    "gate.min_coverage_at_10": (None, 0.1),
    "gate.min_distinct_top10": (None, 0.1),
    "index.exact_below": (20_000, 5_000),
    "model.attention_bias": ("shared", "per_head"),
    "model.cross_normalization": ("both", "none"),
    "model.interaction_heads": (2, 4),
    "model.interaction_layers": (2, 3),
    "model.last_activation": ("linear", "relu"),
    "ranking.click_weight": (0.5, 0.3),
    "training.log_every_steps": (50, 10),
}
BUILT_IN = {key: default for key, (default, _) in REMOVED.items() if default is not None}


def with_key(key, value):
    """Returns `MINIMAL` with a value at a dotted path of two names."""
    section, name = key.split(".")
    return {**MINIMAL, section: {name: value}}


def test_every_removed_key_is_tested_here():
    assert {key: removed.built_in for key, removed in removed_keys(PipelineConfig)} == {
        key: default for key, (default, _) in REMOVED.items()
    }


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in REMOVED.items() for value in values]
)
def test_file_that_sets_it_is_refused_in_one_line_with_what_replaced_it(tmp_path, key, value):
    file = tmp_path / "log.yaml"
    file.write_text(yaml.safe_dump(with_key(key, value)), encoding="utf-8")
    instead = dict(removed_keys(PipelineConfig))[key].instead

    with pytest.raises(ValueError) as error:
        load_config(str(file))

    assert str(error.value) == f"{file}: `{key}` is no longer a key. {instead}"
    assert instead.endswith(".") and "\n" not in instead


@pytest.mark.parametrize(("key", "value"), BUILT_IN.items())
def test_saved_configuration_with_its_default_is_read_as_without_it(key, value):
    expected = from_saved(PipelineConfig, MINIMAL)
    section, name = key.split(".")
    mapping = to_mapping(expected)
    mapping[section][name] = value

    assert from_saved(PipelineConfig, mapping) == expected


@pytest.mark.parametrize(("key", "values"), REMOVED.items())
def test_saved_configuration_with_another_value_is_refused(key, values):
    with pytest.raises(ValueError, match=f"^`{key}` is no longer a key. "):
        from_saved(PipelineConfig, with_key(key, values[1]))


def test_page_has_a_line_for_each():
    page = configuration_reference()
    _, lines = page.split("\n## Removed keys\n")

    assert set(re.findall(r"^- `([a-z_.0-9]+)`: ", lines, re.M)) == set(REMOVED)


def test_what_a_version_saved_itself_is_read_as_saved():
    """Compiled pipelines' execution properties and models' descriptions are such JSON."""
    strict = re.compile(r"\bfrom_mapping\((?:[^()]|\([^()]*\))*\bjson\.loads")
    files = [
        path
        for package in ("trainer", "serving", "tfx_pipeline", "client")
        for path in (ROOT / package).rglob("*.py")
    ]

    assert len(files) > 200
    assert not [path for path in files if strict.search(path.read_text(encoding="utf-8"))]
