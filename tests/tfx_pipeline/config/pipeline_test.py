"""Every key of a configuration file is checked, and named with its dotted path."""

import copy
import dataclasses
import json

import pytest
import yaml

from tfx_pipeline.config import pipeline as c
from tfx_pipeline.config.beam import BeamConfig, DataflowConfig, FlinkConfig
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.gate import DistributionThreshold, GateConfig, ValidationConfig
from tfx_pipeline.config.serving import IndexConfig, ServingConfig
from trainer.contract.config_loader import from_mapping, to_mapping
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.tag_normalization import TagNormalization

MINIMAL = {
    "name": "log",
    "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
    "features": {"domains": [{"name": "clicked"}]},
}
CLASSES = [
    TagNormalization,
    DataConfig,
    ExamplesConfig,
    GateConfig,
    ValidationConfig,
    IndexConfig,
    ServingConfig,
    BeamConfig,
    FlinkConfig,
    DataflowConfig,
    WindowConfig,
    DistributionThreshold,
    c.PipelineConfig,
]


def changed(path, value):
    """Returns `MINIMAL` with the key at a dotted path set."""
    mapping = copy.deepcopy(MINIMAL)
    *parents, last = path.split(".")
    inner = mapping
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return mapping


def write(tmp_path, mapping):
    path = tmp_path / "log.yaml"
    path.write_text(mapping if isinstance(mapping, str) else yaml.safe_dump(mapping))
    return str(path)


# --- what is read ---


def test_minimal_file_gives_the_defaults(tmp_path):
    config = c.load_config(write(tmp_path, MINIMAL))
    assert config == c.PipelineConfig(
        name="log",
        data=DataConfig("i.csv", "t.csv", "u.csv"),
        features=FeatureSpec(domains=(Domain("clicked"),)),
    )
    assert config.output_dir == "build/runs/log"
    assert config.base_path == "build/runs/log/serving"
    assert config.exact_base_path == "build/runs/log/serving_exact"


def test_output_moves_the_base_path_unless_it_is_named(tmp_path):
    path = write(tmp_path, MINIMAL)
    assert c.load_config(path, output="out").base_path == "out/serving"
    path = write(tmp_path, changed("serving.base_path", "models/x"))
    assert c.load_config(path, output="out").base_path == "models/x"


def test_overrides_replace_the_file_and_none_does_not(tmp_path):
    path = write(tmp_path, changed("seed", 4))
    assert c.load_config(path).seed == 4
    assert c.load_config(path, seed=None, output=None).seed == 4
    assert c.load_config(path, seed=0, output="out").seed == 0


def test_date_needs_no_quotation_marks(tmp_path):
    text = yaml.safe_dump(MINIMAL) + (
        "examples: {split: temporal, validation_start: 2019-11-13, test_start: 2019-11-14T06:00:00}"
    )
    examples = c.load_config(write(tmp_path, text)).examples
    assert examples.validation_start == "2019-11-13"
    assert examples.test_start == "2019-11-14T06:00:00"


@pytest.mark.parametrize("name", c.shipped_configs())
def test_shipped_config_loads_and_survives_json(name):
    config = c.load_config(name)
    assert config.name == name
    assert config.index.kind == "scann"
    assert from_mapping(c.PipelineConfig, json.loads(c.to_json(config))) == config


def test_demo_and_movielens_are_shipped():
    assert {"demo", "movielens-1m"} <= set(c.shipped_configs())


@pytest.mark.parametrize("cls", CLASSES)
def test_every_option_is_documented(cls):
    for field in dataclasses.fields(cls):
        assert f"\n      {field.name}: " in cls.__doc__


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in CLASSES[1:2] + CLASSES[8:]])
def test_defaults_survive_the_way_through_a_mapping(cls):
    assert from_mapping(cls, to_mapping(cls())) == cls()


def test_equal_configurations_have_equal_json():
    one = from_mapping(c.PipelineConfig, MINIMAL)
    backwards = {key: MINIMAL[key] for key in reversed(MINIMAL)}
    other = from_mapping(c.PipelineConfig, {**backwards, "seed": 0})
    assert c.to_json(one) == c.to_json(other)
    assert c.to_json(one) != c.to_json(dataclasses.replace(one, seed=1))
    assert c.to_json(one.examples) == c.to_json(ExamplesConfig())


# --- what is refused ---


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # unknown
        ("sede", 1, "`sede` is not a known key. Did you mean `seed`?"),
        ("data.itmes", "x", "`data.itmes` is not a known key. Did you mean `items`?"),
        ("data.tag_normalization.lower", True, "`data.tag_normalization.lower` is not a known"),
        ("features.domains", [{"name": "a", "atribute": "tags"}], "`features.domains[0].atribute`"),
        ("features.vocabularies", {"tags": {"size": 3}}, "`features.vocabularies.tags.size` is"),
        ("model.dropuot", 0.1, "`model.dropuot` is not a known key. Did you mean `dropout`?"),
        ("training.epochs", 3, "`training.epochs` is not a known key."),
        # mistyped
        ("seed", "1", "`seed` must be an integer. Received: '1'."),
        ("name", 5, "`name` must be a string. Received: 5."),
        ("data.max_rejected_fraction", "1%", "`data.max_rejected_fraction` must be a number."),
        ("data.tag_normalization.trim", 1, "`data.tag_normalization.trim` must be true or false."),
        ("features.domains", "clicked", "`features.domains` must be a list."),
        (
            "features.domains",
            [{"name": "a", "max_values": 1.5}],
            "`features.domains[0].max_values`",
        ),
        (
            "features.profile",
            [{"name": "a", "values": [1]}],
            "`features.profile[0].values[0]` must",
        ),
        (
            "features.domains",
            [{"name": "a", "events": "seen"}],
            "`features.domains[0].events` must",
        ),
        ("index.kind", "hnsw", "`index.kind` must be one of auto, exact, scann."),
        (
            "beam.runner",
            "spark",
            "`beam.runner` must be one of local, multi_process, flink, dataflow.",
        ),
        ("examples", [], "`examples` must be a mapping of keys to values. Received: []."),
        # inconsistent
        ("seed", -1, "`seed` must be 0 or positive. Received: seed=-1."),
        ("name", "a/b", "`name` must consist of letters, digits, - and _."),
        ("name", "", "`name` must consist of letters, digits, - and _."),
        ("data.max_rejected_fraction", 1.5, "data: `max_rejected_fraction` must be between 0 and"),
        ("data.list_separator", "", "data: `list_separator` must not be empty."),
        ("features.domains", [], "features: `domains` must name at least one domain or profile"),
        (
            "features.domains",
            [{"name": "a"}, {"name": "a"}],
            "features: `domains` must have different",
        ),
        ("features.domains", [{"name": "a", "max_values": 0}], "features.domains[0]: `max_values`"),
        (
            "features.vocabularies",
            {"tags": {"max_size": 1}},
            "`features.vocabularies.tags.max_size`",
        ),
        ("features.vocabularies", {"other": {}}, "features: `vocabularies` must name vocabularies"),
        ("examples.validation_fraction", 0, "examples: `validation_fraction` must be between 0"),
        ("examples.test_fraction", 1.0, "examples: `test_fraction` must be between 0 and 1."),
        ("examples.test_fraction", 0.95, "examples: `test_fraction` must leave something to train"),
        ("examples.split", "by_time", "`examples.split` must be one of user_holdout, temporal."),
        ("examples.test_start", "2019-11-14", "examples: `test_start` must be null unless `split`"),
        (
            "examples",
            {"split": "temporal", "validation_start": "last week", "test_start": "2019-11-14"},
            "examples: `validation_start` must be an ISO 8601 date or time. Received: validation_",
        ),
        (
            "examples",
            {"split": "temporal", "validation_start": "2019-11-14"},
            "examples: `test_start` must be given together with `validation_start`.",
        ),
        (
            "examples",
            {"split": "temporal", "validation_start": "2019-11-14", "test_start": "2019-11-14"},
            "examples: `test_start` must be later than `validation_start` (2019-11-14). Received",
        ),
        ("data.window", {"days": 0}, "data.window: `days` must be a positive integer."),
        ("data.window", {"days": 2}, "data: `interactions` must have {date} in it where there is"),
        ("data.window", {"days": 2, "day": "May"}, "data.window: `day` must be latest or a date"),
        ("data.window", {"days": 2, "day": "2024-02-30"}, "data.window: `day` must be latest or"),
        ("data.window", {"days": 2, "marker": "a/b"}, "data.window: `marker` must be the name of"),
        (
            "data.interactions",
            "log/{date}",
            "data: `window` must be given where `in",
        ),
        ("data.users", "{date}.csv", "data: `window` must be given where `users`"),
        (
            "examples",
            {"split": "temporal", "test_days": 1},
            "examples: `validation_days` must be a positive integer, like the other.",
        ),
        ("examples", {"validation_days": 1, "test_days": 1}, "examples: `test_days` must be null"),
        (
            "examples",
            {"split": "temporal", "validation_days": 1, "test_days": 1},
            "`examples.test_days` must be left out where there is no `data.window`.",
        ),
        (
            "validation.drift",
            {"clicked": {"l_infinity": 0.1}},
            "`validation.drift` must be left out where there is no `data.window`.",
        ),
        ("validation.skew", {"clicked": {}}, "validation.skew.clicked: `l_infinity` must be given"),
        (
            "validation.skew",
            {"clicked": {"l_infinity": 2}},
            "validation.skew.clicked: `l_infinity` must be between 0 and 1.",
        ),
        (
            "validation.skew",
            {"label_tags": {"l_infinity": 0.1}},
            "`validation.skew` must name features (clicked, clicked_weights). Received: ",
        ),
        (
            "validation.skew",
            {"clicked_weights": {"l_infinity": 0.1}},
            "`validation.skew.clicked_weights.l_infinity` must be null for a feature of numbers",
        ),
        ("examples.cut_fraction", 1, "examples: `cut_fraction` must be between 0 and 1."),
        ("examples.snapshots_per_user", 0, "examples: `snapshots_per_user` must be a positive"),
        ("examples.max_events_per_user", 0, "examples: `max_events_per_user` must be a positive"),
        ("examples.max_label_tags", -3, "examples: `max_label_tags` must be a positive integer."),
        ("examples.max_train_impressions", 0, "examples: `max_train_impressions` must be a"),
        ("examples.max_eval_impressions", 0, "examples: `max_eval_impressions` must be a positive"),
        ("examples.num_shards", 0, "examples: `num_shards` must be a positive integer."),
        ("model.dropout", 1.0, "model: `dropout` must be at least 0 and below 1."),
        ("training.batch_size", 0, "training: `batch_size` must be a positive integer."),
        ("index.k", 0, "index: `k` must be a positive integer. Received: k=0."),
        ("index.k", 201, "`ranking.num_candidates` must be at least `index.k`, 201. Received: "),
        ("ranking.num_candidates", 99, "`ranking.num_candidates` must be at least `index.k`, 100."),
        ("index.target_recall", 0.0, "index: `target_recall` must be above 0 and at most 1."),
        ("index.target_recall", 98.0, "index: `target_recall` must be above 0 and at most 1."),
        ("index.num_leaves", 0, "index: `num_leaves` must be a positive integer or null."),
        ("beam.num_workers", 0, "beam: `num_workers` must be a positive integer."),
    ],
)
def test_wrong_key_is_one_line_with_file_and_dotted_path(tmp_path, path, value, message):
    file = write(tmp_path, changed(path, value))
    with pytest.raises(ValueError) as error:
        c.load_config(file)
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


def windowed(**changes):
    """Returns `MINIMAL` with a one-week window and changes at dotted paths, `__` for a dot."""
    mapping = changed("data.window", {"days": 7})
    mapping["data"]["interactions"] = "log/date={date}"
    mapping["features"]["history_window_days"] = 5
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = mapping
        for key in parents:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return mapping


def test_window_with_what_moves_with_it_is_read():
    mapping = windowed(
        data__window={"days": 7, "day": "2024-05-03", "marker": "_SUCCESS"},
        examples={"split": "temporal", "validation_days": 1, "test_days": 2},
        validation={
            "drift": {"label_tags": {"l_infinity": 0.1}, "clicked": {"jensen_shannon": 0.2}},
            "skew": {"clicked": {"l_infinity": 0.1, "on_violation": "warn"}},
        },
    )

    config = from_mapping(c.PipelineConfig, mapping)

    assert config.data.window == WindowConfig(7, "2024-05-03", "_SUCCESS", 0)
    assert config.validation.drift["label_tags"] == DistributionThreshold(l_infinity=0.1)
    assert config.validation.skew["clicked"].on_violation == "warn"
    assert from_mapping(c.PipelineConfig, json.loads(c.to_json(config))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features__history_window_days": None}, "`features.history_window_days` must be given"),
        ({"features__history_window_days": 8}, "and at most `data.window.days`, 7: older events"),
        (
            {"examples": {"split": "temporal", "validation_days": 3, "test_days": 4}},
            "`examples.test_days` must leave some of the 7 days of `data.window` to train on",
        ),
        (
            {
                "examples": {
                    "split": "temporal",
                    "validation_start": "2024-05-01",
                    "test_start": "2024-05-02",
                }
            },
            "`examples.test_start` must be null where there is a `data.window`",
        ),
        (
            {"validation__drift": {"clickde": {"l_infinity": 0.1}}},
            "`validation.drift` must name features (clicked, clicked_weights, label_tags, ",
        ),
        (
            {"validation__drift": {"history_num_events": {"l_infinity": 0.1}}},
            "`validation.drift.history_num_events.l_infinity` must be null for a feature of numb",
        ),
    ],
)
def test_what_does_not_go_with_a_window_is_refused(changes, message):
    with pytest.raises(ValueError) as error:
        from_mapping(c.PipelineConfig, windowed(**changes))
    assert message in str(error.value)


@pytest.mark.parametrize("score", ["click", "mix"])
def test_score_of_a_click_head_that_is_not_trained_is_refused(tmp_path, score):
    mapping = changed("training.joint_weight", 0.0)
    mapping["ranking"] = {"score": score}
    with pytest.raises(ValueError, match="`ranking.score` must be `validation` or `multi_class`"):
        c.load_config(write(tmp_path, mapping))


@pytest.mark.parametrize("path", ["name", "data", "features", "data.items", "data.users"])
def test_missing_key_is_named(tmp_path, path):
    mapping = copy.deepcopy(MINIMAL)
    *parents, last = path.split(".")
    del (mapping[parents[0]] if parents else mapping)[last]
    file = write(tmp_path, mapping)
    with pytest.raises(ValueError, match=f"`{path}` is missing and has no default"):
        c.load_config(file)


def test_unknown_file_names_those_that_are_shipped(tmp_path):
    missing = str(tmp_path / "nothing.yaml")
    with pytest.raises(ValueError, match="`config` must be a YAML file or one of .*demo") as error:
        c.load_config(missing)
    assert missing in str(error.value)


def test_file_that_is_no_yaml_is_one_line(tmp_path):
    file = write(tmp_path, "name: [1, 2\ndata: {")
    with pytest.raises(ValueError, match="`config` must be valid YAML. Received: ") as error:
        c.load_config(file)
    assert "\n" not in str(error.value)
    assert file in str(error.value)


@pytest.mark.parametrize("text", ["just a text", "- a\n- b\n", "5"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, text):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match="the configuration must be a mapping of keys to values"):
        c.load_config(file, seed=3)


def test_empty_file_lacks_its_first_key(tmp_path):
    file = write(tmp_path, "")
    with pytest.raises(ValueError, match="`name` is missing and has no default"):
        c.load_config(file)


@pytest.mark.parametrize(
    ("serving", "index", "expected"),
    [
        ({"base_path": "/models/tags/"}, {}, "/models/tags_exact"),
        ({"base_path": "/models/tags", "exact_base_path": "/stock/tags"}, {}, "/stock/tags"),
        ({"exact_base_path": "/stock/tags"}, {"export_exact": False}, None),
    ],
)
def test_exact_base_path_follows_the_base_path(serving, index, expected):
    config = from_mapping(c.PipelineConfig, {**MINIMAL, "serving": serving, "index": index})

    assert config.exact_base_path == expected


def test_one_folder_for_both_exports_is_refused():
    mapping = changed(
        "serving", {"base_path": "/models/tags", "exact_base_path": "/models/./tags/"}
    )

    with pytest.raises(ValueError, match="`serving.exact_base_path` must be another folder"):
        from_mapping(c.PipelineConfig, mapping)
