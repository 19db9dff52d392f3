"""Starts a training with an earlier model's weights, row by row for the values that both have.

Vocabularies are ordered by frequency, so that a tag's id changes from day to day: rows of tables,
with the optimizer's slots, are matched by the string that they stand for. A row of a new value
begins as in a fresh model. Weights without such rows are copied as they are. A bucket of numbers
stands for a range, and ranges move with the quantiles: it gets the row of the old bucket that holds
its middle.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.contract.config_loader import require
from trainer.contract.features import TAG_VOCABULARY
from trainer.contract.file_system import exists
from trainer.fitting.model_state import (
    Arrays,
    ModelState,
    named_weights,
    read_arrays,
    write_arrays,
)
from trainer.model import InterestModel

# Folder beside the SavedModel with the state from which a later training can begin.
TRAINING_STATE_DIR = "training_state"
_FILE = "state.npz"

# Name of the values of the view `category`, which are no vocabulary of the transform. Because of
# the hyphen no domain's vocabulary can have this name.
CATEGORY_VOCABULARY = "tag-categories"

Vocabularies = Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class TableRows:
    """The meaning of a weight's rows; rows behind those of the values are hash buckets.

    Attributes:
      vocabulary: Name of the vocabulary whose values the rows stand for.
      num_before: Number of rows before those of the values: the unknown value of a profile feature.
      is_number: Whether the values are the lower bounds of buckets, ascending.
    """

    vocabulary: str
    num_before: int = 0
    is_number: bool = False


@dataclasses.dataclass(frozen=True)
class RowCounts:
    """Numbers of values of a vocabulary in the earlier and the new model.

    Attributes:
      kept: Number of values that both models have.
      new: Number of values that the earlier model does not have.
      retired: Number of values that only the earlier model has.
    """

    kept: int
    new: int
    retired: int

    @classmethod
    def of(cls, places: np.ndarray, num_old: int) -> "RowCounts":
        """Counts the values of a vocabulary.

        Args:
          places: int [n], where each new value stood in the old vocabulary; -1: nowhere.
          num_old: Values of the old one.
        """
        return cls(
            kept=int(np.sum(places >= 0)),
            new=int(np.sum(places < 0)),
            # Several buckets may have the row of one.
            retired=num_old - len(np.unique(places[places >= 0])),
        )


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """The state from which a training begins.

    Attributes:
      state: State with the new model's shapes.
      rows: Numbers of kept, new and retired values by vocabulary.
      has_slots: Whether the optimizer's slots were copied, as both optimizers are of one kind.
    """

    state: ModelState
    rows: dict[str, RowCounts]
    has_slots: bool


def tables(model: InterestModel) -> dict[str, TableRows]:
    """Finds the weights whose rows stand for values of a vocabulary.

    Args:
      model: A model whose variables exist.

    Returns:
      Meanings of the rows by name of the weight.
    """
    names = {id(variable): name for name, variable in named_weights(model).items()}
    tower = model.tag_tower
    found = {
        names[id(variable)]: TableRows(TAG_VOCABULARY)
        for variable in (tower.embeddings, tower.bias, tower.click_bias)
    }
    if tower.views is not None and "category" in model.model_config.tag_views:
        found[names[id(tower.views.category_rows)]] = TableRows(CATEGORY_VOCABULARY)
    singles = {feature.name: feature for feature in model.spec.singles}
    for feature, table in model.user_tower.embedding_tables.items():
        # A table that begins behind the values has hash buckets alone, which stand for no string.
        if table.vocabulary is not None and table.first_id == 0:
            found[names[id(table.variable)]] = TableRows(
                table.vocabulary,
                num_before=int(feature in singles),
                is_number=feature in singles and singles[feature].is_number,
            )
    return found


def vocabularies_of(model: InterestModel, of_transform: Vocabularies) -> dict[str, list[str]]:
    """Returns the vocabularies whose values the rows of a model's tables stand for.

    Args:
      model: A model whose variables exist.
      of_transform: Values in order of their ids, by name of the transform's vocabularies.

    Returns:
      Values in order of their rows, by name of the vocabulary.
    """
    known = dict(of_transform)
    if model.tag_tower.views is not None and "category" in model.model_config.tag_views:
        known[CATEGORY_VOCABULARY] = model.tag_tower.views.categories
    used = {rows.vocabulary for rows in tables(model).values()}
    return {name: list(known[name]) for name in sorted(used)}


def save_training_state(directory: str, model: InterestModel, of_transform: Vocabularies) -> None:
    """Saves the state from which a later training can begin.

    Args:
      directory: Folder of the SavedModel.
      model: The trained model, with the weights of its best state and the slots of its last step.
      of_transform: Values in order of their ids, by name of the transform's vocabularies.
    """
    folder = os.path.join(directory, TRAINING_STATE_DIR)
    rest = {
        "vocabularies": vocabularies_of(model, of_transform),
        "tables": {name: dataclasses.asdict(rows) for name, rows in tables(model).items()},
    }
    write_arrays(os.path.join(folder, _FILE), ModelState.of(model).to_arrays(), rest)


def start_from(directory: str, model: InterestModel, of_transform: Vocabularies) -> WarmStart:
    """Maps a saved training state to a new model.

    Args:
      directory: Folder of the earlier SavedModel.
      model: A fresh model whose variables exist, with a fresh optimizer.
      of_transform: Values in order of their ids, by name of the transform's vocabularies.

    Returns:
      The state to begin with. If the optimizers differ, slots are fresh and steps count from 0.

    Raises:
      ValueError: There is no training state, or it is of another architecture.
    """
    path = os.path.join(directory, TRAINING_STATE_DIR, _FILE)
    require(
        exists(path),
        "training.warm_start",
        f"be false: the last blessed model has no `{TRAINING_STATE_DIR}` ({directory})",
        True,
    )
    arrays, rest = read_arrays(path)
    old, fresh = ModelState.from_arrays(arrays), ModelState.of(model)
    old_tables = {name: TableRows(**rows) for name, rows in rest["tables"].items()}
    new_tables = tables(model)
    _require_same_architecture(old.weights, old_tables, fresh.weights, new_tables)
    old_vocabularies = rest["vocabularies"]
    places = _all_places(old_vocabularies, vocabularies_of(model, of_transform), new_tables)

    def remap(before: Arrays, now: Arrays) -> Arrays:
        return {
            name: _remap(before[name], value, places, old_vocabularies, new_tables.get(name))
            for name, value in now.items()
        }

    # Integers, which count draws of random numbers, begin anew, as the order of examples does.
    floats = {n: v for n, v in fresh.weights.items() if np.issubdtype(v.dtype, np.floating)}
    has_slots = old.slots.keys() == fresh.slots.keys()
    slots = fresh.slots
    if has_slots:
        slots = {kind: remap(old.slots[kind], now) for kind, now in fresh.slots.items()}
    return WarmStart(
        ModelState(
            weights={**fresh.weights, **remap(old.weights, floats)},
            slots=slots,
            iterations=old.iterations if has_slots else 0,
        ),
        rows={
            name: RowCounts.of(found, len(old_vocabularies[name])) for name, found in places.items()
        },
        has_slots=has_slots,
    )


def _require_same_architecture(
    old: Arrays,
    old_tables: Mapping[str, TableRows],
    new: Arrays,
    new_tables: Mapping[str, TableRows],
) -> None:
    mismatches = _mismatches(old, old_tables, new, new_tables)
    require(
        not mismatches,
        "training.warm_start",
        "be false for a model of another architecture than the last blessed one "
        f"({'; '.join(mismatches[:3])})",
        True,
    )


def _all_places(
    old: Vocabularies, new: Vocabularies, new_tables: Mapping[str, TableRows]
) -> dict[str, np.ndarray]:
    """By vocabulary, where each new value stood in the old one, int [n]; -1: nowhere."""
    of_numbers = {rows.vocabulary for rows in new_tables.values() if rows.is_number}
    return {
        name: (_bucket_places if name in of_numbers else _places)(old[name], values)
        for name, values in new.items()
    }


def _places(old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """Finds the place of each new value in the old vocabulary, int [n]; -1: it has none."""
    numbers = {value: i for i, value in enumerate(old)}
    return np.array([numbers.get(value, -1) for value in new], np.int64)


def _bucket_places(old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """Finds the old bucket that holds the middle of each new bucket.

    Args:
      old: Lower bounds of the old buckets, ascending; the first one is below all numbers.
      new: Lower bounds of the new buckets, of the same form.

    Returns:
      int [n], places in `old`. The outermost buckets have no middle: the lowest begins as the old
      lowest, the highest as the old highest.
    """
    bounds = np.array([*new, np.inf], np.float64)
    middles = (bounds[:-1] + bounds[1:]) / 2
    middles[0] = float(old[0])
    return np.searchsorted(np.array(old, np.float64), middles, side="right") - 1


def _remap(
    before: np.ndarray,
    now: np.ndarray,
    places: Mapping[str, np.ndarray],
    old_vocabularies: Vocabularies,
    rows: TableRows | None,
) -> np.ndarray:
    """Returns an array of the new shape with the rows of the old one that mean the same."""
    if rows is None:
        return before
    found = places[rows.vocabulary]
    first, num_old = rows.num_before, len(old_vocabularies[rows.vocabulary])
    remapped = now.copy()
    remapped[:first] = before[:first]
    known = np.flatnonzero(found >= 0)
    remapped[first + known] = before[first + found[known]]
    # With another number of buckets the hash differs, and no bucket keeps its meaning.
    buckets = before[first + num_old :]
    if len(buckets) == len(now) - first - len(found) > 0:
        remapped[-len(buckets) :] = buckets
    return remapped


def _mismatches(
    old: Arrays,
    old_tables: Mapping[str, TableRows],
    new: Arrays,
    new_tables: Mapping[str, TableRows],
) -> list[str]:
    """Describes the weights that differ between both models in existence, shape or meaning."""

    def shape(arrays: Arrays, table_rows: Mapping[str, TableRows], name: str) -> Any:
        if name not in arrays:
            return "nothing"
        if name not in table_rows:
            return list(arrays[name].shape)
        # The number of rows may differ, their meaning may not.
        rows = table_rows[name]
        kind = ["number"] if rows.is_number else ["text"] if rows.num_before else []
        return [rows.vocabulary, *kind, *arrays[name].shape[1:]]

    lines = []
    for name in sorted(old.keys() | new.keys()):
        here, there = shape(new, new_tables, name), shape(old, old_tables, name)
        if here != there:
            lines.append(f"{name}: {here} here, {there} there")
    return lines
