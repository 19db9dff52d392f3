"""A warm start finds rows by their strings, and the optimizer's slots with them."""

import dataclasses

import numpy as np
import pytest

from tests.trainer.toy_training import SMALL, make_model, train_part, validation_part
from trainer.contract import features as f
from trainer.fitting.initial_values import label_shares, set_initial_values
from trainer.fitting.loop import build_model, fit
from trainer.fitting.model_state import ModelState, build_optimizer
from trainer.fitting.optimizer import make_optimizer
from trainer.fitting.warm_start import RowCounts, save_training_state, start_from, tables
from trainer.towers.tag_views import TagAttributes

SEGMENTS = f.profile_vocabulary_name("segment")
MONDAY = {"tags": [*"abcdefgh"], SEGMENTS: ["old", "young"]}
# Another order, two tags more and three less; a segment more.
TUESDAY = {"tags": [*"hxbaycd"], SEGMENTS: ["middle", "young", "old"]}
TAG_ROWS = RowCounts(kept=5, new=2, retired=3)


def fresh(vocabularies, **options):
    """Makes a built model with a fresh optimizer."""
    num_tags = len(vocabularies["tags"])
    if "category" in options.get("model", SMALL).tag_views:
        categories = tuple("even" if ord(tag) % 2 else "odd" for tag in vocabularies["tags"])
        if "x" not in vocabularies["tags"]:
            categories = (*categories[:-1], "rare")
        options["attributes"] = TagAttributes(tuple(vocabularies["tags"]), categories)
    model = make_model(num_tags=num_tags, num_segments=len(vocabularies[SEGMENTS]), **options)
    build_model(model, train_part())
    build_optimizer(model, make_optimizer(model.training_config))
    return model


def saved(folder, vocabularies=MONDAY, **options):
    """Makes a state without two equal values, as a training would leave it."""
    model = fresh(vocabularies, **options)
    rng = np.random.default_rng(0)

    def values(arrays):
        return {
            name: array if array.dtype.kind == "i" else rng.uniform(0.1, 1, size=array.shape)
            for name, array in arrays.items()
        }

    state = ModelState.of(model)
    slots = {kind: values(arrays) for kind, arrays in state.slots.items()}
    ModelState(values(state.weights), slots, iterations=70).assign_to(model)
    save_training_state(str(folder), model, vocabularies)
    return ModelState.of(model)


def by_value(array, values, num_before=0):
    """Returns rows of a table by their string; those before and after them by position."""
    rows = {value: array[num_before + i] for i, value in enumerate(values)}
    rows |= {("before", i): array[i] for i in range(num_before)}
    behind = array[num_before + len(values) :]
    return rows | {("behind", i): row for i, row in enumerate(behind)}


def assert_rows_found_again(old, start, new, name, vocabulary, num_before=0):
    """Checks that `start` has `old`'s row where there is one, else `new`'s."""
    expected = by_value(new, TUESDAY[vocabulary], num_before)
    known = by_value(old, MONDAY[vocabulary], num_before)
    expected |= {value: row for value, row in known.items() if value in expected}
    found = by_value(start, TUESDAY[vocabulary], num_before)
    assert found.keys() == expected.keys()
    for value, row in expected.items():
        np.testing.assert_array_equal(found[value], row, err_msg=f"{name}, {value}")


@pytest.mark.parametrize(
    ("interaction", "num_tables"),
    # The tag tower's three; of the tags' domain one, or shares and log counts.
    [("utpm", 5), ("bag", 6)],
)
def test_rows_and_slots_are_found_again_by_their_strings(tmp_path, interaction, num_tables):
    options = {"model": dataclasses.replace(SMALL, interaction=interaction)}
    old = saved(tmp_path, **options)
    model = fresh(TUESDAY, **options)
    new = ModelState.of(model)

    start = start_from(str(tmp_path), model, TUESDAY)

    assert start.rows == {"tags": TAG_ROWS, SEGMENTS: RowCounts(kept=2, new=1, retired=0)}
    assert start.has_slots and start.state.iterations == 70
    rows = tables(model)
    assert len(rows) == num_tables
    assert [r.num_before for r in rows.values() if r.vocabulary == SEGMENTS] == [1]
    arrays = {"weights": (old.weights, start.state.weights, new.weights)}
    for kind in ("momentums", "velocities"):
        arrays[kind] = (old.slots[kind], start.state.slots[kind], new.slots[kind])
    for kind, (before, begin, now) in arrays.items():
        assert begin.keys() == now.keys()
        for name, value in begin.items():
            if name in rows:
                args = (before[name], value, now[name], f"{kind} of {name}")
                assert_rows_found_again(*args, rows[name].vocabulary, rows[name].num_before)
            else:
                np.testing.assert_array_equal(value, before[name], err_msg=f"{kind} of {name}")


def test_categories_of_tags_are_found_again_too(tmp_path):
    options = {"model": dataclasses.replace(SMALL, tag_views=("words", "category"))}
    old = saved(tmp_path, **options)
    model = fresh(TUESDAY, **options)

    start = start_from(str(tmp_path), model, TUESDAY)

    assert model.tag_tower.views.categories == ("even", "odd")
    assert start.rows["tag-categories"] == RowCounts(kept=2, new=0, retired=1)
    name = "tag_tower.views.category_rows"
    np.testing.assert_array_equal(start.state.weights[name], old.weights[name][[0, 1]])
    name = "tag_tower.views.word_rows"
    np.testing.assert_array_equal(start.state.weights[name], old.weights[name])


def test_shared_table_leaves_the_users_buckets_alone_and_they_are_kept(tmp_path):
    options = {"model": dataclasses.replace(SMALL, share_tag_embeddings=True)}
    old = saved(tmp_path, **options)
    model = fresh(TUESDAY, **options)

    start = start_from(str(tmp_path), model, TUESDAY)

    name = "user_tower.fields.clicked_tags"
    assert name not in tables(model) and old.weights[name].shape == (1, 8)
    np.testing.assert_array_equal(start.state.weights[name], old.weights[name])
    name = "tag_tower.embeddings"
    np.testing.assert_array_equal(start.state.weights[name][0], old.weights[name][7])


def test_new_tags_begin_at_the_logarithm_of_their_share_and_known_ones_as_they_were(tmp_path):
    old = saved(tmp_path)
    model = fresh(TUESDAY)
    set_initial_values(model, train_part())

    start = start_from(str(tmp_path), model, TUESDAY)

    name = "tag_tower.bias"
    known = by_value(old.weights[name], MONDAY["tags"])
    shares = label_shares(train_part(), len(TUESDAY["tags"]))
    new = np.log(len(TUESDAY["tags"]) * shares).astype(np.float32)
    expected = [known.get(tag, new[i]) for i, tag in enumerate(TUESDAY["tags"])]
    np.testing.assert_array_equal(start.state.weights[name], expected)
    assert set(TUESDAY["tags"]) - set(known) and np.any(new != 0)


def test_draws_of_random_numbers_begin_anew(tmp_path):
    trained = make_model(max_epochs=1)
    fit(trained, train_part(), validation_part(), 0)
    save_training_state(str(tmp_path), trained, MONDAY)
    assert ModelState.of(trained).weights["user_tower.dropout.num_calls"] == 6

    start = start_from(str(tmp_path), fresh(MONDAY), MONDAY)

    assert start.state.weights["user_tower.dropout.num_calls"] == 0


def test_another_optimizer_begins_with_fresh_slots(tmp_path):
    old = saved(tmp_path)
    model = fresh(TUESDAY, optimizer="adagrad")

    start = start_from(str(tmp_path), model, TUESDAY)

    assert not start.has_slots and start.state.iterations == 0
    assert start.rows["tags"] == TAG_ROWS
    fresh_slots = ModelState.of(model).slots["accumulators"]
    for name, value in start.state.slots["accumulators"].items():
        np.testing.assert_array_equal(value, fresh_slots[name])
    name = "tag_tower.embeddings"
    np.testing.assert_array_equal(start.state.weights[name][2], old.weights[name][1])


def test_another_architecture_is_refused_with_what_does_not_fit_and_a_remedy(tmp_path):
    saved(tmp_path)
    model = fresh(TUESDAY, model=dataclasses.replace(SMALL, hidden_dim=20))

    with pytest.raises(ValueError) as error:
        start_from(str(tmp_path), model, TUESDAY)

    message = str(error.value)
    assert message.startswith("`training.warm_start` must be false for a model of another architec")
    assert "user_tower.hidden.bias: [20] here, [16] there" in message
    assert "\n" not in message


def test_weights_that_one_model_alone_has_are_refused(tmp_path):
    saved(tmp_path)
    model = fresh(TUESDAY, attention_weight=0.5)

    with pytest.raises(ValueError, match=r"click_head.attention\S+: \[.*\] here, nothing there"):
        start_from(str(tmp_path), model, TUESDAY)


def test_model_without_a_training_state_is_refused(tmp_path):
    model = fresh(TUESDAY)

    with pytest.raises(ValueError, match="`training.warm_start` must be false: the last blessed"):
        start_from(str(tmp_path), model, TUESDAY)


def test_training_begins_with_the_state_and_a_schedule_of_its_own(tmp_path):
    saved(tmp_path)
    options = {"max_epochs": 1, "learning_rate": 1e-6, "learning_rate_schedule": "cosine"}
    model = fresh(MONDAY, **options)
    start = start_from(str(tmp_path), model, MONDAY).state

    fit(model, train_part(), validation_part(), 0, start=start)

    # Six tiny steps, so that the kept state is nearly the initial one.
    assert model.optimizer.iterations.numpy() == 76
    after = ModelState.of(model)
    for name in ("tag_tower.embeddings", "user_tower.last.kernel"):
        np.testing.assert_allclose(after.weights[name], start.weights[name], atol=1e-4)
        moments = start.slots["momentums"][name]
        assert not np.array_equal(after.slots["momentums"][name], moments)
    # The schedule's last step: 5 of 6 of this training, not 75 of 6.
    expected = 1e-6 * 0.5 * (1 + np.cos(np.pi * 5 / 6))
    assert model.optimizer._current_learning_rate.numpy() == pytest.approx(expected, rel=1e-4)


def test_second_day_begins_better_than_a_fresh_model(tmp_path):
    day, users = train_part(), validation_part()
    first = make_model()
    cold = fit(first, day, users, 0)
    save_training_state(str(tmp_path), first, MONDAY)

    model = fresh(MONDAY)
    warm = fit(model, day, users, 1, start=start_from(str(tmp_path), model, MONDAY).state)

    assert warm.losses[0] < cold.losses[0]
    assert warm.validation[0]["ndcg_at_10"] > cold.validation[0]["ndcg_at_10"]
