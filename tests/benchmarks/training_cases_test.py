import dataclasses

import pytest

from benchmarks import training, training_cases, training_data
from benchmarks.training import CASES, make_case
from benchmarks.training_cases import Case, Work
from tests.benchmarks import small_training_data

LOG = training_data.MOVIELENS


@pytest.fixture
def config(monkeypatch):
    """Returns MovieLens's configuration with few variables: tracing takes most of the time."""
    config = training_cases.configured(LOG, 4)
    model = dataclasses.replace(
        config.model, use_domain_totals=False, log_count_fields=False, field_residual=False
    )
    config = dataclasses.replace(config, model=model)
    monkeypatch.setattr(training_cases, "configured", lambda *_: config)
    return config


@pytest.fixture
def arrays(config, tmp_path):
    data = small_training_data.training_data()
    training_data.save(data, training_data.training_columns(config), tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_case_counts_what_it_did(name, config, arrays):
    data = small_training_data.training_data()
    labels = training_data.label_examples(data.snapshots, config.training)
    case = make_case(name, LOG, arrays, 4)
    case.warm_up(0.01)
    work = case.measure(0.01)

    assert work.seconds > 0
    assert work.steps >= 1
    if name.startswith("peer."):
        num_rows = labels.sum() - 3 * 40  # a row a label tag, impressions are ours alone
        assert work.snapshots == work.label_examples == work.steps * num_rows
    else:
        # The batch is as large as the data: each step has every label example once.
        assert work.snapshots == 40 * work.steps
        assert work.label_examples == pytest.approx(work.steps * labels.sum())
        domains = [domain.name for domain in small_training_data.SPEC.domains]
        values = sum(len(data.snapshots.lists[name].values) for name in domains)
        assert work.history_values == pytest.approx(work.steps * values)


def test_products_are_those_of_the_whole_step(config, arrays):
    case = make_case(training.PRODUCTS, LOG, arrays, 4)
    measured = case.measure(0.01)

    # The last layer alone: forward, and the gradients of kernel and input.
    assert measured.flops > 3 * 2 * 40 * config.model.hidden_dim * config.model.output_dim
    assert measured.seconds > 0
    assert measured.square_flops_per_second > 0


def test_case_runs_as_many_steps_as_its_pace_allows():
    seen = []

    def run(steps):
        seen.append(steps)
        return Work(0.5 * steps, steps, steps, steps, steps)

    case = Case(run)
    case.warm_up(8.0)
    seen.clear()

    assert case.measure(3.0).steps == 6
    assert case.measure(0.1).steps == 1
    assert seen == [6, 1]


def test_loss_that_is_not_finite_is_refused(config, arrays, monkeypatch):
    broken = dataclasses.replace(config.training, learning_rate=1e30)
    broken = dataclasses.replace(config, training=broken)
    monkeypatch.setattr(training_cases, "configured", lambda *_: broken)
    case = make_case(training.TWO_TOWER, LOG, arrays, 4)
    with pytest.raises(ValueError, match="`loss` must be finite. Received: loss=nan"):
        case.warm_up(0.01)
