"""A study of defaults: the meaning of its file, and that a mistake in it is one line."""

import copy
import dataclasses
import re

import pytest
import yaml

from tfx_pipeline.cli import main
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.study.grid import defaults_config as c
from tfx_pipeline.study.grid.config import USER_METRICS
from tfx_pipeline.study.grid.defaults_definition import Sample, load_defaults
from tfx_pipeline.study.trials import evaluation

BASE = {
    "name": "log",
    "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv", "planted": "p.jsonl"},
    "features": {
        "domains": [
            {"name": "clicked", "max_values": 7},
            {"name": "week", "window_days": 7},
            {"name": "kinds", "attribute": "category"},
        ]
    },
    "model": {"embedding_dim": 16},
}
CLASSES = [c.DefaultsConfig, c.LogConfig, c.DefaultConfig, c.MovieLensTables]


@pytest.fixture
def write(tmp_path):
    """Writes a study with two logs; returns its path."""
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    config = str(tmp_path / "base.yaml")
    study = {
        "name": "small",
        "logs": {
            "own": {"config": config},
            "few": {"config": config, "demo": {"num_users": 9}, "num_users": 5, "draws": [3, 4]},
        },
        "defaults": {"default": {}, "wide": {"model": {"hidden_dim": 99}}},
    }

    def write_study(path="", value=None) -> str:
        mapping = copy.deepcopy(study)
        if path:
            *parents, last = path.split(".")
            inner = mapping
            for key in parents:
                inner = inner[key]
            inner[last] = value
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(mapping, sort_keys=False))
        return str(file)

    return write_study


def domains_of(study, default):
    return [
        (domain.name, domain.window_days)
        for domain in study.trial_config(Sample("own"), default).features.domains
    ]


# --- what it means ---


def test_default_changes_the_sections_that_it_names_on_every_log(write):
    value = {
        "model": {"hidden_dim": 99},
        "training": {"budget_steps": 7},
        "ranking": {"memory": "none"},
    }
    study = load_defaults(write("defaults.wide", value))

    for sample in study.samples:
        default, wide = (study.trial_config(sample, name) for name in ("default", "wide"))
        assert default == study.sample_config(sample)
        assert default.model.embedding_dim == 16
        assert wide.model == dataclasses.replace(default.model, hidden_dim=99)
        assert wide.training == dataclasses.replace(default.training, budget_steps=7)
        assert wide.ranking == dataclasses.replace(default.ranking, memory="none")
        assert wide.features == default.features


def test_samples_are_logs_and_their_draws_with_tables_of_their_own(write):
    study = load_defaults(write())

    assert study.samples == (Sample("own"), Sample("few", 3), Sample("few", 4))
    own, third, fourth = (study.sample_config(sample) for sample in study.samples)
    assert (own.data.users, own.data.planted) == ("u.csv", None)
    tables = "build/studies/small/tables/few.draw_3"
    assert third.data.interactions == f"{tables}/interactions"
    assert (third.data.items, third.data.users) == (
        f"{tables}/items.parquet",
        f"{tables}/users.parquet",
    )
    assert fourth.output_dir == "build/studies/small/data/few.draw_4"


def test_overrides_of_a_log_are_that_logs_alone(write):
    path = write("logs.own.overrides", {"model": {"num_heads": 5}})

    study = load_defaults(path)

    heads = [study.trial_config(s, "wide").model.num_heads for s in study.samples]
    assert heads == [5, 2, 2]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [("clicked", None, None), ("week", 7, None), ("kinds", None, None)]),
        ({"latest_events": 0}, [("clicked", None, None), ("kinds", None, None)]),
        (
            {"recent_days": 14},
            [("clicked", None, None), ("kinds", None, None), ("recent_clicked", 14, None)],
        ),
        (
            {"latest_events": 20},
            [("clicked", None, None), ("kinds", None, None), ("latest_clicked", None, 20)],
        ),
    ],
)
def test_default_says_which_domains_look_back_less(write, keys, expected):
    study = load_defaults(write("defaults.wide", keys))

    domains = study.trial_config(Sample("own"), "wide").features.domains
    assert [(d.name, d.window_days, d.last_events) for d in domains] == expected
    if len(expected) == 3 and keys:
        assert domains[2].max_values == 7


def test_defaults_with_the_same_features_share_the_examples(write):
    study = load_defaults(write("defaults.recent", {"recent_days": 3}))

    names = [study.data_set(Sample("few", 3), d) for d in ("default", "wide", "recent")]
    assert names == ["few.draw_3", "few.draw_3", "few.draw_3.with_recent"]


def test_features_of_a_default_replace_those_of_the_log(write):
    value = {"features": {"domains": [{"name": "seen", "events": "clicked"}]}, "recent_days": 2}

    study = load_defaults(write("defaults.wide", value))

    assert domains_of(study, "wide") == [("seen", None), ("recent_seen", 2)]


def test_command_line_replaces_output_and_seeds_and_chooses_logs(write):
    study = load_defaults(write(), output="out", seeds=[5], logs=["few"])

    assert (study.config.output_dir, study.config.seeds) == ("out", (5,))
    assert {sample.log for sample in study.samples} == {"few"}


def test_movielens_is_where_the_file_the_variable_or_the_checkout_says(write, monkeypatch):
    monkeypatch.delenv("MOVIELENS_DIR", raising=False)
    assert load_defaults(write()).config.movielens_folder == "../shared/data"
    monkeypatch.setenv("MOVIELENS_DIR", "/data")
    assert load_defaults(write()).config.movielens_folder == "/data"
    assert load_defaults(write("movielens_dir", "/here")).config.movielens_folder == "/here"


# --- what is refused ---


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("log", {}, "`log` is not a known key. Did you mean `logs`?"),
        ("defaults.wide", {"modle": {}}, "`defaults.wide.modle` is not a known key."),
        ("defaults.wide", {"model": {"hiden_dim": 1}}, "`defaults.wide.model.hiden_dim` is not a"),
        ("defaults.wide", {"model": {"dropout": 2}}, "defaults.wide.model: `dropout` must be at"),
        ("defaults.wide", {"recent_days": 0}, "defaults.wide: `recent_days` must be positive or"),
        ("defaults.wide", {"latest_events": -1}, "`latest_events` must be 0 or positive, or null."),
        (
            "defaults.wide",
            {"latest_events": 0, "recent_days": 1},
            "`latest_events` must be left out where there is `recent_days`.",
        ),
        (
            "defaults.wide",
            {"features": {"domain": []}},
            "`defaults.wide.features.domain` is not a known key.",
        ),
        ("logs.few.demo", {"num_user": 3}, "`logs.few.demo.num_user` is not a known key."),
        ("logs.few.draws", [], "logs.few: `draws` must be given together with `num_users`."),
        (
            "logs.few",
            {
                "config": "demo",
                "demo": {"num_users": 9},
                "num_users": 5,
                "draws": [3],
                "from_training_users": True,
                "overrides": {"examples": {"split": "temporal"}},
            },
            "`logs.few.from_training_users` must be false where `examples.split` is not user_hold",
        ),
        (
            "defaults.wide",
            {"features": {"domains": [{"name": "d", "window_days": 3}]}, "latest_events": 5},
            "`latest_events` must go with a log that has a domain without `window_days` and `last_",
        ),
        (
            "logs.own.from_training_users",
            True,
            "logs.own: `from_training_users` must be false where there are no `draws`.",
        ),
        ("logs.few.draws", [1, 1], "logs.few: `draws` must differ."),
        ("logs.few.num_users", 0, "logs.few: `num_users` must be a positive integer or null."),
        ("logs.few.demo", None, "`num_users` must be null where there is neither `demo` nor"),
        ("logs.few.movielens_1m", {}, "`demo` must be null where there is `movielens_1m`."),
        ("logs.own.config", "no-such", "`config` must be a YAML file or one of demo, m"),
        ("logs.own.overrides", {"modle": {}}, "`logs.own.overrides.modle` is not a known key."),
        ("logs", {}, "`logs` must name at least one."),
        ("defaults", {}, "`defaults` must name at least one."),
        ("defaults", {"a.b": {}}, "`defaults` must have names of letters, digits, - and _."),
        ("defaults", {"ease": {}}, "`defaults` must not have names of baselines. Received: defa"),
        ("seeds", [0, 0], "`seeds` must differ."),
        ("metrics", ["click_auc"], "`metrics` must name what exists. Received: 'click_auc'."),
    ],
)
def test_mistake_is_named_with_its_path(write, path, value, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_defaults(write(path, value))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config", "defaults", "--logs", "demos"], "`logs` must name what exists."),
        (["--config", "demo", "--logs", "demo"], "`logs` must be left out where the study has"),
        (["--config", "defaults", "--seeds", "1", "1"], "`seeds` must differ"),
        (["--config", "defaults", "--output", "gs://b/c"], "`output` must be a local folder, as"),
        (["--config", "demo", "--output", "gs://b/c"], "`output` must be a local folder, as"),
        (["--config", "defaults", "--output", "a*b"], "`output` must have none of"),
    ],
)
def test_command_says_a_mistake_in_one_line(arguments, named, capsys):
    status = main(["study", *arguments])

    captured = capsys.readouterr()
    assert status == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert named in captured.err


def test_table_that_is_missing_is_named_before_anything_is_made(write, tmp_path, capsys):
    status = main(["study", "--config", write(), "--output", str(tmp_path / "out")])

    assert status == 2
    assert "No file or folder at" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- what is shipped and documented ---


def test_shipped_study_has_the_logs_and_the_defaults_that_matter():
    study = load_defaults("defaults")

    logs, defaults = study.config.logs, study.config.defaults
    assert study.config.name == "defaults"
    assert logs["movielens_1m"].movielens_1m == c.MovieLensTables()
    cuts = {log.num_users: len(log.draws) for log in logs.values() if log.draws}
    assert cuts[600] == 5
    for name in ("movielens_600", "movielens_1500"):
        assert (len(logs[name].draws), logs[name].movielens_1m) == (5, c.MovieLensTables())
    assert logs["movielens_rare_tags"].movielens_1m == c.MovieLensTables(1, 30)
    assert logs["movielens_rare_tags"].num_users == 1500
    many = logs["demo_many_tags"].demo
    assert (many.num_tags, many.num_users) == (40_000, 5_000)
    assert logs["demo_repeats"].demo.repeat_share > 0
    assert logs["demo_never"].demo.repeats == "never"
    assert next(iter(defaults.values())) == c.DefaultConfig()
    sample = Sample("demo")
    towers = {
        (one.model.interaction, one.model.linear_path)
        for one in (study.trial_config(sample, name) for name in defaults)
    }
    assert {("utpm", "ease"), ("utpm", "none"), ("bag", "ease")} <= towers


def test_development_study_draws_from_training_users_alone():
    study = load_defaults("development")

    cut = [log for log in study.config.logs.values() if log.movielens_1m is not None]
    assert len(cut) == 4
    assert all(log.from_training_users for log in cut)
    # Another log than that of the reported demo.
    assert study.config.logs["demo"].demo.seed != DemoConfig().seed


def test_metrics_that_may_be_compared_are_those_kept_by_user():
    assert USER_METRICS == evaluation.USER_METRICS
    assert set(c.METRICS) <= set(USER_METRICS)


@pytest.mark.parametrize("cls", CLASSES)
def test_page_has_every_key(cls):
    prefixes = {
        c.DefaultsConfig: "",
        c.LogConfig: "logs.<log>.",
        c.DefaultConfig: "defaults.<default>.",
        c.MovieLensTables: "logs.<log>.movielens_1m.",
    }
    page = open("docs/study.md", encoding="utf-8").read()

    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if f"| `{prefixes[cls]}{field.name}` |" not in page
    ]
    assert missing == []
