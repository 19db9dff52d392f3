"""Evaluator, index builder and servable agree about the memory in `training.json`."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.report_keys import undocumented_keys
from tests.serving.servable.tag_memory_test import HistoryTowers, features_of, slow_scores, vectors
from tests.tfx_pipeline.evaluation.model_figures import model_figures
from tests.trainer.evaluation.figures_test import snapshots as label_snapshots
from tests.trainer.toy_training import make_model
from tests.trainer.toy_training import snapshots as toy_snapshots
from tfx_pipeline.components.tag_index_builder import build_servables
from tfx_pipeline.config.serving import IndexConfig, TagPolicyConfig
from tfx_pipeline.evaluation.saved_model_scorer import SavedModelScorer, read_second_stage
from tfx_pipeline.study.trials.evaluation import evaluate_stages
from tfx_pipeline.terminal.tables import quality_table
from tfx_pipeline.versions.servable_paths import main_path
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.config_loader import to_mapping
from trainer.contract.memory import DomainMemory, describe_memory, remember
from trainer.contract.tag_normalization import TagNormalization
from trainer.data.snapshots import Snapshots
from trainer.evaluation.calibration import calibrate, tag_outcomes
from trainer.evaluation.figures import evaluate
from trainer.evaluation.second_stage import SecondStage, two_stage_scores
from trainer.task import TRAINING_FILE

NUM_USERS, NUM_TAGS, NUM_CANDIDATES = 6, 40, 8
MEMORY = (DomainMemory("clicked", 1.0, 20.0), DomainMemory("recent", 0.3))
TAGS = [f"t{j}" for j in range(NUM_TAGS)]
STAGE = SecondStage(click_weight=0.25, mix_weight=0.5, num_candidates=NUM_CANDIDATES, memory=MEMORY)


def histories():
    rng = np.random.default_rng(8)
    made = []
    for i in range(NUM_USERS):
        tags = [*(TAGS[j] for j in rng.integers(0, NUM_TAGS, 4 * i)), *["unknown"] * (i % 2)]
        clicked = [(tag, float(rng.random()) + 0.5) for tag in tags]
        made.append({"clicked": clicked, "recent": clicked[: i // 2]})
    return made


@pytest.fixture(scope="module")
def towers_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    users, tags, clicks = vectors()
    HistoryTowers(users, tags, clicks, click_weight=0.25).save(folder)
    training = {"features": {"profile": [{"name": "user"}]}, "second_stage": to_mapping(STAGE)}
    (folder / TRAINING_FILE).write_text(json.dumps(training))
    return str(folder)


@pytest.fixture(scope="module")
def serialized():
    examples = {}
    for i, history in enumerate(histories()):
        example = tf.train.Example()
        feature = example.features.feature
        for name in ("name", f.USER_ID):
            feature[name].bytes_list.value.append(f"u{i}".encode())
        for domain, pairs in history.items():
            feature[domain].bytes_list.value.extend(tag.encode() for tag, _ in pairs)
            feature[f.weights_name(domain)].float_list.value.extend(w for _, w in pairs)
        examples[f"u{i}".encode()] = example.SerializeToString()
    return examples


@pytest.fixture(scope="module")
def users():
    rng = np.random.default_rng(1)
    known = [
        sorted({TAGS.index(tag) for tag, _ in history["clicked"] if tag in TAGS})
        for history in histories()
    ]
    labels = [[*row[::2], int(rng.integers(NUM_TAGS))] for row in known]
    made = label_snapshots(labels, known, [[([3], 1), ([4], 0)]] * NUM_USERS)
    ids = np.array([f"u{i}".encode() for i in range(NUM_USERS)])
    return Snapshots({**made.scalars, f.USER_ID: ids}, made.lists)


def test_what_is_written_in_the_trainings_file_is_read_again(towers_dir):
    assert read_second_stage(towers_dir)[0] == STAGE
    assert describe_memory(MEMORY) == "clicked: 1 n / (n + 20), recent: 0.3"
    assert describe_memory(()) == "none"


def test_towers_that_were_saved_before_have_no_memory(tmp_path):
    (tmp_path / TRAINING_FILE).write_text(json.dumps({"second_stage": {"click_weight": 0.5}}))

    assert read_second_stage(str(tmp_path))[0].memory == ()


def test_the_evaluators_lists_are_those_of_the_servable(towers_dir, serialized, users, tmp_path):
    build_servables(
        tf.saved_model.load(towers_dir),
        towers_dir,
        list(serialized.values()),
        str(tmp_path),
        IndexConfig(kind="exact", k=NUM_CANDIDATES),
        TagPolicyConfig(),
        TagNormalization(),
        {},
    )
    servable = tf.saved_model.load(main_path(str(tmp_path)))
    retrieve = servable.signatures[s.RETRIEVE]
    features = features_of(histories())
    answer = retrieve(name=tf.constant([f"u{i}" for i in range(NUM_USERS)]), **features)
    by_example = servable.signatures[s.SERVING_DEFAULT](
        examples=tf.constant(list(serialized.values()))
    )
    with open(f"{main_path(str(tmp_path))}/{s.DESCRIPTION_FILE}", encoding="utf-8") as file:
        described = json.load(file)["second_stage"]
    assert described == {
        "click_weight": 0.25,
        "memory": [
            {"domain": "clicked", "limit": 1.0, "half_weight": 20.0},
            {"domain": "recent", "limit": 0.3, "half_weight": 0.0},
        ],
    }

    order = np.argsort(-SavedModelScorer(towers_dir, TAGS, serialized).score_tags(users), axis=1)

    served = [[int(tag[1:]) for tag in row] for row in answer[s.TAGS].numpy()]
    np.testing.assert_array_equal(order[:, :NUM_CANDIDATES], served)
    np.testing.assert_array_equal(by_example[s.TAGS], answer[s.TAGS])
    for row, history in enumerate(histories()):
        first, own, scores, _ = slow_scores(row, history, MEMORY, 0.25, NUM_CANDIDATES)
        ordered = sorted(own | set(first[:NUM_CANDIDATES]), key=lambda j, x=scores: -x[j])
        assert order[row].tolist() == ordered + [j for j in first if j not in ordered]


def test_tags_of_another_models_vocabulary_are_unknown_in_its_histories(
    towers_dir, serialized, users
):
    # t7 is no tag of the evaluation, and `new` none of the model.
    tags = ["new", *(tag for tag in TAGS if tag != "t7")]
    scorer = SavedModelScorer(towers_dir, tags, serialized)

    order = np.argsort(-scorer.score_tags(users), axis=1)

    for row, history in enumerate(histories()):
        assert order[row, -1] == 0
        first, own, scores, _ = slow_scores(row, history, MEMORY, 0.25, NUM_CANDIDATES, (7,))
        ordered = sorted(own | set(first[:NUM_CANDIDATES]), key=lambda j, x=scores: -x[j])
        assert [int(tags[j][1:]) for j in order[row, : len(ordered)]] == ordered


def test_figures_with_and_without_memory_stand_beside_each_other(
    towers_dir, serialized, users, tmp_path
):
    path = tmp_path / "examples.gz"
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for example in serialized.values():
            writer.write(example)

    figures = model_figures(
        "model", towers_dir, TAGS, np.ones(NUM_TAGS), users, [str(path)], with_stages=True
    )

    stages = ["multi_class_stage", "click_stage", "mix_stage"]
    assert list(figures) == ["model", "without_memory_stage", *stages]
    scorer = SavedModelScorer(towers_dir, TAGS, serialized)
    for who, score in (
        ("model", scorer.score_tags),
        ("without_memory_stage", scorer.stage_scorer(0.25)),
        ("mix_stage", scorer.stage_scorer(0.5)),
    ):
        expected = evaluate(score, users, NUM_TAGS, with_slices=False)
        assert figures[who]["ndcg_at_10"] == expected["ndcg_at_10"]
    assert figures["model"]["ndcg_at_10"] > figures["without_memory_stage"]["ndcg_at_10"]
    novel = [name for name in figures["model"] if name.startswith("novel_")]
    assert all(figures["model"][n] == figures["without_memory_stage"][n] for n in novel)
    keys = [f"eval.{who}.{name}" for who, by_name in figures.items() for name in by_name]
    assert undocumented_keys([*keys, "eval.memory"]) == []
    report = {f"eval.{who}.{n}": v for who, by_name in figures.items() for n, v in by_name.items()}
    table = quality_table(report | {"eval.click_weight": 0.25, "eval.mix_weight": 0.5})
    rows = [line.split("  ")[0] for line in table.splitlines()[2:]]
    assert rows == ["model", "without memory stage", *(n.replace("_", " ") for n in stages)]


def test_calibration_is_of_the_mixture_over_candidates_and_history(towers_dir, serialized, users):
    scorer = SavedModelScorer(towers_dir, TAGS, serialized)

    log_shares, outcomes = scorer.tag_outcomes(users)

    labels = users.lists[f.LABEL_TAGS]
    expected = []
    for row, history in enumerate(histories()):
        first, own, _, found = slow_scores(row, history, MEMORY, 0.25, NUM_CANDIDATES)
        clicked = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
        expected += [(found[j], j in clicked) for j in own | set(first[:NUM_CANDIDATES])]
    np.testing.assert_allclose(
        sorted(zip(log_shares, outcomes, strict=True)), sorted(expected), rtol=1e-5
    )


def test_a_calibration_with_memory_is_fitted_on_the_mixture():
    model, validation = make_model(), toy_snapshots(16, first=1000)
    memory = (DomainMemory("clicked_tags", 0.6),)

    with_memory, without = (calibrate(model, validation, 3, m).tags for m in (memory, ()))

    queries = model.query_embeddings(validation.features()).numpy()
    logits = queries @ model.candidate_embeddings().numpy().T
    remembered = remember(memory, validation.lists, model.num_tags)
    pairs, _ = tag_outcomes(logits, validation, 3, remembered)
    # A clicked tag is among the three or beside them.
    assert 48 <= with_memory.num_examples == len(pairs) <= 64
    assert without.num_examples == 48
    assert with_memory.slope != without.slope


def test_a_study_has_the_figures_of_the_same_mixture():
    model, part = make_model(), toy_snapshots(24, first=2000)
    memory = (DomainMemory("clicked_tags", 0.6),)
    stage = SecondStage(click_weight=0.25, mix_weight=0.5, num_candidates=3, memory=memory)

    figures = evaluate_stages(model, part, stage)

    assert list(figures) == [
        "model",
        "without_memory_stage",
        "multi_class_stage",
        "click_stage",
        "mix_stage",
    ]
    queries = model.query_embeddings(part.features()).numpy()
    candidates = model.candidate_embeddings().numpy()
    ranking = 0.75 * candidates + 0.25 * model.click_candidate_embeddings().numpy()
    remembered = remember(memory, part.lists, model.num_tags)
    scores = two_stage_scores(queries @ candidates.T, queries, ranking, 3, remembered)
    expected = evaluate(lambda chunk: scores, part, model.num_tags, with_slices=False)
    assert figures["model"].metrics["ndcg_at_10"] == pytest.approx(expected["ndcg_at_10"])
    # Users click again the tags that they clicked.
    assert figures["model"].metrics["precision_at_1"] == 1.0
    without = evaluate_stages(model, part, dataclasses.replace(stage, memory=()))
    assert figures["without_memory_stage"].metrics == without["model"].metrics
    assert "without_memory_stage" not in without
