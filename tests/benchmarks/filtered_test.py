import dataclasses

import numpy as np
import pytest

from benchmarks import filtered
from benchmarks.filtered import (
    CASES,
    GRPC,
    IN_PROCESS,
    NUM_CALLS,
    RETRIEVE,
    RULES,
    SIMILAR,
    CaseMeasurement,
    faults,
    flatten,
    make_calls,
    measure,
    recall_of,
    summarize,
    table,
)
from benchmarks.lookup_servable import DIMENSION, K, MadeUpTags
from tests.report_keys import undocumented_keys, unwritten_keys

NUM_TAGS = 2_000


@pytest.fixture(scope="module")
def made_up():
    return MadeUpTags.draw(NUM_TAGS, filtered._NUM_USERS)


def figures_of(recall):
    by_case = {case: CaseMeasurement(3.0, 1.5) for case in CASES}
    found = {interface: dict.fromkeys(NUM_CALLS, by_case) for interface in (IN_PROCESS, GRPC)}
    return {"filtered.num_tags": 1} | flatten(found, dict.fromkeys(RULES, recall))


def test_made_up_categories_are_a_hundredth_anywhere_and_half_the_space(made_up):
    shares = {name: np.mean(made_up.categories == name) for name in ("half", "hundredth", "rest")}
    assert shares["half"] == pytest.approx(0.495, abs=0.01)
    assert shares["hundredth"] == pytest.approx(0.01, abs=0.008)
    first = made_up.vectors[:, 0]
    assert first[made_up.categories == "half"].min() > first[made_up.categories == "rest"].max()
    assert made_up.vectors.shape == (NUM_TAGS, DIMENSION + 1)
    assert (made_up.queries[:, -1] == 1).all()


def test_median_of_each_case_and_its_ratio_to_retrieve():
    measured = summarize({RETRIEVE: [0.002, 0.001, 0.009], "half": [0.003, 0.005, 0.003]})

    assert measured[RETRIEVE] == CaseMeasurement(pytest.approx(2), pytest.approx(1))
    assert measured["half"] == CaseMeasurement(pytest.approx(3), pytest.approx(1.5))


def test_keys_are_documented_and_the_table_has_every_case():
    figures = figures_of(0.99)

    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/filtered.py") == []
    assert figures["filtered.grpc.batch_64.half.over_retrieve"] == 1.5
    assert "filtered.grpc.batch_64.retrieve.over_retrieve" not in figures
    assert len(table(figures).splitlines()) == 2 + len(CASES)


def test_recall_below_the_target_is_a_fault():
    assert faults(figures_of(0.98)) == []
    assert len(faults(figures_of(0.979))) == len(RULES)


def fake(made_up):
    """Calls that search exactly by numpy, and what they were asked."""
    asked = []

    def retrieve_filtered(instances, *, exclude_tags, allow_categories):
        answer = []
        rows = zip(instances, exclude_tags, allow_categories, strict=True)
        for instance, excluded, categories in rows:
            asked.append((len(excluded), categories))
            scores = made_up.vectors @ made_up.queries[int(instance["user"])]
            if categories:
                scores[~np.isin(made_up.categories, categories)] = -np.inf
            scores[[int(tag[1:]) for tag in excluded]] = -np.inf
            best = np.argsort(-scores)[:K]
            answer.append([f"t{j}" for j in best if np.isfinite(scores[j])])
        return answer

    def retrieve(instances):
        none = [()] * len(instances)
        return retrieve_filtered(instances, exclude_tags=none, allow_categories=none)

    return make_calls(made_up, retrieve, retrieve_filtered, lambda tags: asked.append(tags)), asked


@pytest.mark.parametrize("case", ["no_rule", "exclusions", "half"])
def test_exact_answers_under_each_rule_have_recall_1(made_up, case):
    calls, asked = fake(made_up)

    assert recall_of(made_up, case, calls[case]) == 1
    assert set(asked) == {
        (filtered.NUM_EXCLUDED if RULES[case][0] else 0, RULES[case][1]),
    }


def test_answers_of_another_rule_have_a_lower_recall(made_up):
    calls, _ = fake(made_up)

    assert recall_of(made_up, "exclusions", calls["no_rule"]) == 0
    assert recall_of(made_up, "half", calls["no_rule"]) < 0.9


def test_every_case_is_called_with_the_whole_batch(made_up, monkeypatch):
    monkeypatch.setattr(filtered, "NUM_CALLS", {3: 2})
    sizes = {}
    calls = {
        case: (lambda users, case=case: sizes.setdefault(case, []).append(len(users)))
        for case in (RETRIEVE, SIMILAR)
    }

    found = measure(calls)

    num_calls = filtered._NUM_WARM_UP_CALLS + 2
    assert sizes == {RETRIEVE: [3] * num_calls, SIMILAR: [3] * num_calls}
    assert found.keys() == {3} and found[3].keys() == {RETRIEVE, SIMILAR}


def test_real_servable_is_measured_and_answers_by_the_rules(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(filtered, "NUM_CALLS", {2: 1})
    filtered.make(str(tmp_path), NUM_TAGS)

    measured, recalls = filtered.measure_in_process(str(tmp_path))

    found = filtered.read_made_up(tmp_path)
    for field in dataclasses.fields(MadeUpTags):
        expected = getattr(made_up, field.name)
        assert getattr(found, field.name).tolist() == expected.tolist()
    assert measured[2].keys() == set(CASES)
    assert measured[2]["half"].latency_ms_p50 > 0
    assert recalls.keys() == RULES.keys()
    # Small categories are searched exactly.
    assert recalls["half"] == 1
    assert all(recall > 0.95 for case, recall in recalls.items() if case != "hundredth")


def test_size_with_too_small_a_category_is_refused(monkeypatch):
    monkeypatch.setenv("SIZE", "19999")
    with pytest.raises(ValueError, match="`SIZE` must be at least 20000 tags"):
        filtered.run(print)
