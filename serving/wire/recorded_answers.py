"""Comparison of a version's answers with those recorded when it was exported.

A manifest detects changed bytes; this detects changed answers, whatever the cause: a vocabulary in
another order, weights that were changed together with the manifest, a library that computes
differently. Machines use different instructions and differ in the last digits, so near-ties may
change places: scores are compared within `TOLERANCE`, and tags by their scores.
"""

import collections
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow_serving.apis import predict_pb2

from tagtower_client.tensor_proto import to_numpy

# `model_spec.version_label` of an answer that an export recorded. It distinguishes these answers
# from those of a server's request log, which may be used as warm-up, but may come from another
# version and are not compared.
RECORDED = "recorded-at-export"
# Share of the largest number of an output. Processors differ by a few millionths; products that a
# GPU computes in TF32 by a thousandth.
TOLERANCE = 0.01
# Share of a list's places that an approximate index may fill with other tags on another machine.
MAX_OTHERS = 0.1

Arrays = Mapping[str, np.ndarray]


def difference(
    recorded: predict_pb2.PredictResponse,
    answered: predict_pb2.PredictResponse,
    is_approximate: bool,
) -> str | None:
    """Finds how an answer differs from the recorded one.

    Args:
      recorded: Answer that the export recorded.
      answered: Answer to the same request now.
      is_approximate: Whether the index is approximate; then one in ten tags of a list may differ.

    Returns:
      The first output that differs and how, to follow the name of the signature; None: no output
      differs.
    """
    before, now = (
        {name: to_numpy(tensor) for name, tensor in sorted(response.outputs.items())}
        for response in (recorded, answered)
    )
    for name, array in before.items():
        if name not in now:
            return f"`{name}` is missing"
        if array.shape != now[name].shape or array.dtype != now[name].dtype:
            return f"`{name}` is {_kind(now[name])} in place of {_kind(array)}"
    lists = {
        name for name, array in before.items() if array.dtype == object and _scores(before, array)
    }
    of_lists = {score for name in lists for score in _scores(before, before[name])}
    for name, array in before.items():
        if name in lists:
            wrong = _wrong_rows(before, now, name, is_approximate)
        elif name in of_lists and is_approximate:
            continue
        elif array.dtype.kind in "fc":
            wrong = ~_are_close(array, now[name], _tolerance(array))
        else:
            wrong = array != now[name]
        if np.any(wrong):
            return f"`{name}` differs in {int(np.sum(wrong))} of {np.size(wrong)} values"
    return None


def _kind(array: np.ndarray) -> str:
    kind = "string" if array.dtype == object else str(array.dtype)
    return f"{kind} {list(array.shape)}"


def _scores(arrays: Arrays, texts: np.ndarray) -> list[str]:
    """Returns the outputs that have a number for each place of a list of texts."""
    if texts.ndim < 2:
        return []
    return [n for n, a in arrays.items() if a.dtype.kind == "f" and a.shape == texts.shape]


def _tolerance(array: np.ndarray) -> float:
    finite = array[np.isfinite(array)]
    return TOLERANCE * float(np.max(np.abs(finite), initial=0.0)) + 1e-6


def _are_close(one: np.ndarray, other: np.ndarray, tolerance: Any) -> np.ndarray:
    return np.isclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)


def _wrong_rows(before: Arrays, now: Arrays, name: str, is_approximate: bool) -> np.ndarray:
    """Returns which rows of a list differ by more than near-ties that changed places, bool [n]."""
    num_places = before[name].shape[-1]
    if not num_places:
        return np.zeros(0, bool)
    scores = _scores(before, before[name])
    tolerances = [_tolerance(before[score]) for score in scores]
    # A replaced text counts twice: as a missing one and as a new one.
    most = 2 * math.floor(MAX_OTHERS * num_places) if is_approximate else 0

    def rows(arrays: Arrays) -> list[_Row]:
        columns = [arrays[output].reshape(-1, num_places) for output in (name, *scores)]
        return [_Row(texts, numbers) for texts, *numbers in zip(*columns, strict=True)]

    wrong = []
    for one, other in zip(rows(before), rows(now), strict=True):
        num_others = one.num_missing_in(other, tolerances) + other.num_missing_in(one, tolerances)
        wrong.append(num_others > most or one.has_others_numbers(other, tolerances))
    return np.array(wrong, bool)


class _Row:
    """The texts of one list, with the numbers of each.

    Args:
      texts: string [places], texts in order; a repeated text counts as a further one.
      numbers: float [places] each, outputs that belong to the texts.
    """

    def __init__(self, texts: np.ndarray, numbers: list[np.ndarray]):
        seen: collections.Counter[str] = collections.Counter()
        self._numbers: dict[tuple[bytes, int], np.ndarray] = {}
        for place, text in enumerate(texts):
            self._numbers[text, seen[text]] = np.array([of[place] for of in numbers])
            seen[text] += 1
        self._last = np.array([of[-1] for of in numbers])

    def num_missing_in(self, other: "_Row", tolerances: list[float]) -> int:
        """Counts the texts that another list lacks, except those that may follow after its end."""
        missing = [n for text, n in self._numbers.items() if text not in other._numbers]
        # Absolute values as well, because contributions are ordered by these.
        return sum(
            not _is_close(numbers, other._last, tolerances)
            and not _is_close(np.abs(numbers), np.abs(other._last), tolerances)
            for numbers in missing
        )

    def has_others_numbers(self, other: "_Row", tolerances: list[float]) -> bool:
        """Returns whether a text of both lists has other numbers in the other list."""
        return any(
            not _is_close(numbers, other._numbers[text], tolerances)
            for text, numbers in self._numbers.items()
            if text in other._numbers
        )


def _is_close(one: np.ndarray, other: np.ndarray, tolerances: Any) -> bool:
    return bool(np.all(_are_close(one, other, tolerances)))
