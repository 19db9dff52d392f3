"""The estimate of memory before a training agrees with what the training then takes."""

import dataclasses
import multiprocessing
import os
from concurrent import futures

import pytest

from tests.report_keys import undocumented_keys
from tests.trainer.toy_training import SMALL, make_model, train_part, validation_part
from trainer.config import TrainingConfig
from trainer.fitting.checkpoints import CheckpointFolder
from trainer.fitting.loop import fit
from trainer.fitting.memory_estimate import estimate_memory, require_memory
from trainer.fitting.model_state import ModelState

# What an estimate is held to: the peak of the training, from a half more than that to a fifth less.
MOST_ABOVE, MOST_BELOW = 1.5, 0.8
MANY_TAGS = 400_000
LARGE = {"full_softmax_max_tags": 100, "num_sampled_tags": 64, "max_epochs": 2}


def large_model(optimizer):
    model = dataclasses.replace(SMALL, output_dim=64, linear_path="none")
    return make_model(model=model, num_tags=MANY_TAGS, optimizer=optimizer, **LARGE)


def bytes_of(arrays):
    return sum(array.nbytes for array in arrays.values()) / 1e6


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_weights_and_slots_are_counted_exactly(optimizer):
    def make():
        return make_model(optimizer=optimizer, max_epochs=1)

    model = make()
    estimate = estimate_memory(make, train_part())
    fit(model, train_part(), validation_part(), 0)
    state = ModelState.of(model)

    # Counters of the metrics and of steps are a few bytes more.
    assert estimate.parameters_mb == pytest.approx(bytes_of(state.weights), abs=1e-4)
    slots = sum(bytes_of(slots) for slots in state.slots.values())
    assert estimate.optimizer_mb == pytest.approx(slots, abs=1e-4)
    assert len(state.slots) == {"adam": 2, "adagrad": 1}[optimizer]


def test_figures_of_a_report_are_documented_and_add_up():
    estimate = estimate_memory(make_model, train_part())
    figures = estimate.to_mapping()

    assert undocumented_keys(f"train.memory_estimate.{name}" for name in figures) == []
    total = figures.pop("total_mb")
    assert total == pytest.approx(sum(figures.values()), abs=0.5)
    assert f"{estimate.total_mb:,.0f} MB" in str(estimate)


def test_replicas_and_a_base_model_hold_copies():
    alone = estimate_memory(make_model, train_part())
    both = estimate_memory(make_model, train_part(), num_replicas=2, has_base_model=True)

    assert both.parameters_mb == pytest.approx(3 * alone.parameters_mb)
    assert both.optimizer_mb == pytest.approx(2 * alone.optimizer_mb)
    assert alone.start_mb == 0
    assert both.start_mb == pytest.approx(alone.parameters_mb + alone.optimizer_mb)


def test_training_above_the_bound_is_refused_with_the_numbers():
    estimate = estimate_memory(make_model, train_part())
    estimate = dataclasses.replace(
        estimate, process_mb=700.0, parameters_mb=1032.4, optimizer_mb=2064.8
    )
    config = TrainingConfig(max_memory_mb=2_000)
    with pytest.raises(ValueError, match="`training.max_memory_mb` must be at least") as refusal:
        require_memory(estimate, config)

    line = str(refusal.value)
    assert "\n" not in line
    assert f"{estimate.total_mb:,.0f} MB (process 700, graphs" in line
    assert "parameters 1,032, optimizer 2,065" in line
    for remedy in ("adagrad", "output_dim", "embedding_dim", "share_tag_embeddings", "max_size"):
        assert remedy in line
    assert line.endswith("Received: training.max_memory_mb=2000.")


@pytest.mark.parametrize("bound", [None, 10_000])
def test_training_below_the_bound_is_not_refused(bound):
    require_memory(estimate_memory(make_model, train_part()), TrainingConfig(max_memory_mb=bound))


def peak_mb():
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def measure(folder, optimizer):
    """Returns, from a fresh process, the estimate and the peak of a training with checkpoints."""
    estimate = estimate_memory(lambda: large_model(optimizer), train_part())
    before = peak_mb()
    fit(
        large_model(optimizer),
        train_part(),
        validation_part(),
        0,
        checkpoints=CheckpointFolder(os.path.join(folder, "checkpoints")),
    )
    return estimate, before, peak_mb()


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_estimate_is_near_the_peak_of_a_training(tmp_path, optimizer):
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        estimate, before, peak = executor.submit(measure, str(tmp_path), optimizer).result()
    print(estimate, before, peak)

    # A model of only 8 tags would be far off: the tables take most of the memory.
    assert estimate.total_mb - estimate.process_mb > 2 * estimate.graphs_mb
    assert before < estimate.process_mb + estimate.parameters_mb  # nothing was allocated
    assert MOST_BELOW * peak <= estimate.total_mb <= MOST_ABOVE * peak
    # So is what the training adds, without what was there.
    added, expected = peak - estimate.process_mb, estimate.total_mb - estimate.process_mb
    assert MOST_BELOW * added <= expected <= MOST_ABOVE * added
