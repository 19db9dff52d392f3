"""A study's file: what it means, and that a mistake in it is one line before any training."""

import copy
import dataclasses
import re

import pytest
import yaml

from tests.report_keys import undocumented_keys
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import load_yaml, shipped_configs
from tfx_pipeline.study.grid import config as c
from tfx_pipeline.study.grid.defaults_config import is_of_defaults
from tfx_pipeline.study.grid.definition import FOLDER, OBJECTIVE_KEYS, load_study, merged
from trainer.config import TrainingConfig
from trainer.contract.features import Domain
from trainer.contract.metric_registry import CUTS, PROFILE_CUTS

BASE = {
    "name": "log",
    "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
    "features": {"domains": [{"name": "clicked"}]},
    "model": {"embedding_dim": 16},
    "training": {"max_epochs": 3},
}
STUDY = {
    "name": "small",
    "towers": {"utpm": {}, "average": {"pooling": "average"}},
    "objectives": {"both": {}, "clicks": {"multi_class_weight": 0.0, "joint_weight": 1.0}},
    "grid": [{"towers": ["utpm", "average"], "objectives": ["both", "clicks"]}],
    "parameter_reference": "utpm",
}
# The other kind of study is in defaults_config_test.py.
GRIDS = [name for name in shipped_configs(FOLDER) if not is_of_defaults(load_yaml(name, FOLDER))]
CLASSES = [
    c.BaseConfig,
    c.GridBlock,
    c.Selector,
    c.Question,
    c.NewTagsConfig,
    c.StudyConfig,
]


@pytest.fixture
def write(tmp_path):
    """Writes a study and its base; returns the study's path."""

    def write_study(study) -> str:
        base = tmp_path / "base.yaml"
        base.write_text(yaml.safe_dump(BASE))
        mapping = copy.deepcopy(study)
        if isinstance(mapping, dict):
            mapping.setdefault("base", {"config": str(base)})
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(mapping))
        return str(path)

    return write_study


def changed(path, value):
    """`STUDY` with the key at a dotted path set."""
    mapping = copy.deepcopy(STUDY)
    *parents, last = path.split(".")
    inner = mapping
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return mapping


# --- what it means ---


def test_overrides_of_a_tower_change_the_bases_model_alone(write):
    study = load_study(write(STUDY))

    utpm, average = (study.model_config(name) for name in ("utpm", "average"))
    assert utpm == study.base.model
    assert utpm.embedding_dim == 16
    assert average == dataclasses.replace(utpm, pooling="average")


def test_objective_changes_the_losses_and_leaves_what_is_equal_for_all(write):
    study = load_study(write(STUDY))

    clicks = study.training_config("clicks")
    assert (clicks.multi_class_weight, clicks.joint_weight) == (0.0, 1.0)
    assert clicks.max_epochs == 3
    assert study.training_config("both") == study.base.training


def test_overrides_of_the_base_hold_for_all(write):
    path = write(STUDY)
    mapping = yaml.safe_load(open(path, encoding="utf-8"))
    mapping["base"]["overrides"] = {"training": {"batch_size": 7}, "model": {"num_heads": 1}}

    study = load_study(write(mapping))

    assert study.training_config("clicks").batch_size == 7
    assert study.model_config("average").num_heads == 1
    assert study.base.training.max_epochs == 3


def test_data_set_has_features_of_its_own_and_a_folder_of_its_own(write):
    domains = [{"name": "clicked"}, {"name": "recent", "window_days": 1}]
    study = load_study(write(changed("data_sets.recent", {"features": {"domains": domains}})))

    recent, base = (study.pipeline_config(name) for name in ("recent", "base"))
    assert recent.features.domains == (Domain("clicked"), Domain("recent", window_days=1.0))
    assert base.features.domains == (Domain("clicked"),)
    assert recent.output_dir == "build/studies/small/data/recent"
    assert base.output_dir == "build/studies/small/data/base"
    assert recent.data == base.data


def test_output_of_the_command_line_replaces_the_files_and_its_page(write):
    path = write({**STUDY, "page": "docs/results.md", "seeds": [5]})

    assert load_study(path).config.page == "docs/results.md"
    moved = load_study(path, output="out", seeds=[1, 2]).config
    assert (moved.output_dir, moved.page, moved.seeds) == ("out", None, (1, 2))


def test_merged_replaces_lists_and_merges_mappings():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 2}

    assert merged(base, {"a": {"c": [3]}, "e": {}}) == {"a": {"b": 1, "c": [3]}, "d": 2, "e": {}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 2}


def test_cells_are_those_of_all_blocks_each_once(write):
    blocks = [
        {"towers": ["utpm", "average"], "objectives": ["both"], "budgets": ["width", "parameters"]},
        {"towers": ["utpm"], "objectives": ["both", "clicks"]},
    ]

    cells = load_study(write({**STUDY, "grid": blocks})).config.cells

    assert cells == (
        c.Cell("utpm", "both"),
        c.Cell("average", "both"),
        c.Cell("utpm", "both", budget="parameters"),
        c.Cell("average", "both", budget="parameters"),
        c.Cell("utpm", "clicks"),
    )


def test_question_compares_each_side_in_each_budget():
    question = c.Question(
        "?",
        reference=c.Selector(tower="a"),
        against=(c.Selector(tower="b"), c.Selector(tower="a", who="popularity")),
        shared=c.Selector(objective="x", data_set="other"),
        budgets=("width", "parameters"),
    )

    def side(tower, budget, who="model"):
        return c.Side(c.Cell(tower, "x", "other", budget), who)

    assert list(c.comparisons(question)) == [
        (side("a", budget), other)
        for budget in ("width", "parameters")
        for other in (side("b", budget), side("a", budget, "popularity"))
    ]


def test_what_a_side_says_itself_wins_over_what_is_shared():
    shared = c.Selector(tower="a", objective="x", budget="parameters")

    filled = c.Selector(tower="b", budget="width").filled(shared)

    assert filled == c.Selector(tower="b", objective="x", budget="width")


def test_every_metric_wanted_anywhere_is_named_once():
    question = c.Question(
        "?",
        c.Selector(tower="a", objective="x"),
        (c.Selector(tower="b", objective="x"),),
        metrics=("click_auc", "ndcg_at_10"),
    )
    config = c.StudyConfig(
        "s",
        c.BaseConfig("demo"),
        {"a": {}, "b": {}},
        {"x": {}},
        (c.GridBlock(("a", "b"), ("x",)),),
        metrics=("ndcg_at_10",),
        plot_metrics=("ndcg_at_10", "click_gauc"),
        questions=(question,),
    )

    assert config.all_metrics == ("ndcg_at_10", "click_gauc", "click_auc")


# --- what is refused ---


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # unknown, with what is meant
        ("grdi", [], "`grdi` is not a known key. Did you mean `grid`?"),
        ("towers.utpm", {"num_head": 1}, "`towers.utpm.num_head` is not a known key. Did you mean"),
        ("objectives.both", {"joint": 1}, "`objectives.both.joint` is not a known key."),
        (
            "grid",
            [{"towers": ["utmp"], "objectives": ["both"]}],
            "`grid[0].towers` must name what exists. Received: 'utmp'. Did you mean 'utpm'?",
        ),
        (
            "grid",
            [{"towers": ["utpm"], "objectives": ["xyz"]}],
            "`grid[0].objectives` must name what exists. Received: 'xyz'. Known: both, clicks.",
        ),
        (
            "grid",
            [{"towers": ["utpm"], "objectives": ["both"], "data_sets": ["long"]}],
            "`grid[0].data_sets` must name what exists. Received: 'long'. Known: base.",
        ),
        ("parameter_reference", "bag", "`parameter_reference` must name what exists."),
        ("data_sets.long", {"model": {}}, "`data_sets.long` must name what exists."),
        ("metrics", ["precision_at_7"], "`metrics` must be names of metrics of the report"),
        ("plot_metrics", ["accuracy"], "`plot_metrics` must be names of metrics of the report"),
        # empty
        ("grid", [], "`grid` must have at least one block."),
        ("grid", [{"towers": [], "objectives": ["both"]}], "grid[0]: `towers` must name at least"),
        ("seeds", [], "`seeds` must name at least one."),
        ("metrics", [], "`metrics` must name at least one."),
        # inconsistent
        ("name", "a/b", "`name` must consist of letters, digits, - and _."),
        ("seeds", [0, 0], "`seeds` must differ. Received: seeds=[0, 0]."),
        ("seeds", [-1], "`seeds` must be 0 or positive."),
        ("towers", {"a b": {}}, "`towers` must have names of letters, digits, - and _."),
        ("data_sets.base", {}, "`data_sets` must not name one `base`"),
        (
            "grid",
            [{"towers": ["utpm", "utpm"], "objectives": ["both"]}],
            "grid[0]: `towers` must name nothing twice. Received: towers='utpm'.",
        ),
        ("towers.utpm", {"dropout": 2}, "towers.utpm: `dropout` must be at least 0 and below 1."),
        ("towers.utpm", None, "`towers.utpm` must be a mapping. Received: None."),
        (
            "objectives.clicks",
            {"multi_class_weight": 0.0, "joint_weight": 0.0},
            "objectives.clicks: `multi_class_weight` must be positive when all other weights",
        ),
        # what would make trials unequal
        (
            "objectives.both",
            {"max_epochs": 9},
            "`objectives.both.max_epochs` must not differ between objectives "
            "(`base.overrides.training` sets it for all). Received: objectives.both.max_epochs=9.",
        ),
        ("data_sets.long", {"features": {"domains": []}}, "data_sets.long.features: `domains`"),
    ],
)
def test_mistake_is_named_with_its_path(write, path, value, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_study(write(changed(path, value)))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"against": []}, "questions[0]: `against` must name at least one."),
        ({"metrics": ["p10"]}, "questions[0]: `metrics` must be names of metrics"),
        ({"question": " "}, "questions[0]: `question` must be a question."),
        ({"shared": {}}, "questions[0]: `objective` must be named by every side of a question"),
        (
            {"against": [{"tower": "utpm"}]},
            "questions[0]: `against` must differ from `reference`. Received: against='utpm · both",
        ),
        (
            {"budgets": ["parameters"]},
            "`questions[0]` must compare cells of the grid alone. Received: "
            "questions[0]='utpm · both · base · parameters'.",
        ),
        ({"against": [{"who": "popular"}]}, "`questions[0].against[0].who` must be one of model"),
    ],
)
def test_question_that_cannot_be_answered_is_refused(write, question, message):
    good = {
        "question": "Does attention beat pooling?",
        "shared": {"objective": "both"},
        "reference": {"tower": "utpm"},
        "against": [{"tower": "average"}],
    }
    load_study(write({**STUDY, "questions": [good]}))

    with pytest.raises(ValueError, match=re.escape(message)):
        load_study(write({**STUDY, "questions": [{**good, **question}]}))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"tower": ["views"]}, "`new_tags.tower` is not a known key. Did you mean `towers`?"),
        ({"towers": []}, "new_tags: `towers` must name at least one."),
        ({"towers": ["views", "views"]}, "new_tags: `towers` must name nothing twice."),
        (
            {"towers": ["view"]},
            "`new_tags.towers` must name what exists. Received: 'view'. Did you mean 'views'?",
        ),
        (
            {"towers": ["views", "utpm"]},
            "`new_tags.towers` must name towers with `tag_views`. Received: new_tags.towers='utpm'",
        ),
        ({"objective": "click"}, "`new_tags.objective` must name what exists. Received: 'click'."),
        ({"data_set": "long"}, "`new_tags.data_set` must name what exists. Received: 'long'."),
        ({"fraction": 1}, "new_tags: `fraction` must be above 0 and below 1. Received: fraction=1"),
        ({"fraction": "10 %"}, "`new_tags.fraction` must be a number. Received: '10 %'."),
    ],
)
def test_new_tags_that_cannot_be_scored_are_refused(write, section, message):
    study = changed("towers.views", {"tag_views": ["words"]})
    good = {"towers": ["views"], "objective": "both"}
    assert load_study(write({**study, "new_tags": good})).config.new_tags == c.NewTagsConfig(
        ("views",), "both", "base", 0.1
    )

    with pytest.raises(ValueError, match=re.escape(message)):
        load_study(write({**study, "new_tags": {**good, **section}}))


def test_tower_with_vectors_needs_them_in_the_base(write):
    path = write(changed("towers.views", {"tag_views": ["vectors"]}))
    with pytest.raises(ValueError, match="`towers.views.tag_views` must not name `vectors`"):
        load_study(path)

    mapping = yaml.safe_load(open(path, encoding="utf-8"))
    mapping["base"]["overrides"] = {"data": {"tag_vectors": "v.parquet"}}
    assert load_study(write(mapping)).model_config("views").tag_views == ("vectors",)


def test_equal_parameters_need_a_reference(write):
    block = {"towers": ["utpm"], "objectives": ["both"], "budgets": ["parameters"]}

    with pytest.raises(ValueError, match="`parameter_reference` must name a tower: `grid"):
        load_study(write({**STUDY, "grid": [block], "parameter_reference": None}))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"config": "no-such"}, "`config` must be a YAML file or one of demo, m"),
        ({"overrides": {"training": {"epochs": 1}}}, "`base.overrides.training.epochs` is not a"),
    ],
)
def test_mistake_in_the_base_is_named(write, base, message):
    path = write(STUDY)
    mapping = yaml.safe_load(open(path, encoding="utf-8"))
    mapping["base"] |= base
    path = write(mapping)

    with pytest.raises(ValueError, match=re.escape(message)):
        load_study(path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config", "no-such.yaml"], "no-such.yaml"),
        # Of a pipeline, not of a study: the names are apart.
        (["--config", "tfx_pipeline/configs/demo.yaml"], "`data` is not a known key"),
        (["--config", "demo", "--seeds", "1", "1"], "`seeds` must differ"),
    ],
)
def test_command_says_a_mistake_in_one_line(arguments, named, capsys):
    status = main(["study", *arguments])

    captured = capsys.readouterr()
    assert status == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert named in captured.err


# --- what is shipped and documented ---


@pytest.mark.parametrize("name", GRIDS)
def test_shipped_study_loads_under_its_name(name):
    study = load_study(name)

    assert study.config.name == name
    assert study.config.questions
    assert len(study.config.seeds) >= 2


def test_shipped_study_of_movielens_covers_every_tower_and_objective():
    study = load_study("movielens-1m")

    cells = study.config.cells
    interactions = {study.model_config(cell.tower).interaction for cell in cells}
    assert interactions == {"utpm", "youtube_dnn", "afm", "nfm", "dcn", "autoint", "bag"}
    trained = [study.training_config(cell.objective) for cell in cells]
    for key in (key for key in OBJECTIVE_KEYS if key.endswith("_weight")):
        assert any(getattr(one, key) > 0 for one in trained), key
    assert study.config.page == "docs/results.md"
    assert len(study.config.seeds) == 3


@pytest.mark.parametrize("name", GRIDS)
def test_shipped_study_scores_new_tags_by_words_and_category(name):
    study = load_study(name)

    assert study.config.new_tags.fraction == 0.1
    for tower in study.config.new_tags.towers:
        assert study.model_config(tower).tag_views == ("words", "category")


def test_keys_of_an_objective_are_keys_of_training():
    assert set(OBJECTIVE_KEYS) <= {field.name for field in dataclasses.fields(TrainingConfig)}


def test_metrics_that_may_be_named_are_those_of_the_report():
    cuts = [f"{kind}_at_{k}" for kind in ("precision", "recall", "ndcg") for k in CUTS]
    names = [f"{prefix}{name}" for prefix in ("", "novel_") for name in cuts]
    names += ["click_auc", "click_gauc", "distinct_top10", "coverage_at_10"]
    names += [f"{kind}_at_{k}" for kind in ("tagged_impressions", "tag_ctr") for k in PROFILE_CUTS]

    assert all(name in c.COMPARED_METRICS for name in names)
    assert undocumented_keys([f"eval.model.{name}" for name in names]) == []
    for name in ("precision_at_7", "tag_ctr_at_20", "novel_click_auc", "precision_at_100"):
        assert name not in c.COMPARED_METRICS


@pytest.mark.parametrize("cls", CLASSES)
def test_every_key_is_documented_in_its_class_and_on_the_page(cls):
    page = open("docs/study.md", encoding="utf-8").read()
    for field in dataclasses.fields(cls):
        assert f"\n      {field.name}: " in cls.__doc__
        assert re.search(rf"^\| `[\w.\[\]<>]*\b{field.name}` \|", page, re.MULTILINE), field.name
