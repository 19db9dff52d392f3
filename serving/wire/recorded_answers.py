"""Whether a version answers as it did when it was exported.

A manifest sees other bytes; this sees other answers, whatever they come from: a vocabulary in
another order, weights that were changed with the manifest, a library that computes otherwise.
Machines compute with other instructions and differ in the last digits, so that near-ties change
places: scores are compared within `TOLERANCE`, and tags by the scores that they have.
"""

import collections
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.wire.serving_api import predict_pb2
from serving.wire.tensor_proto import to_numpy

# `model_spec.version_label` of an answer that an export recorded. A server's log has answers too,
# maybe of another version, and may be used as warm-up.
RECORDED = "recorded-at-export"
# Of the largest number of an output. Processors differ by some millionths; what a GPU multiplies
# in TF32 by a thousandth.
TOLERANCE = 0.01
# Places of a list that an approximate index may fill with other tags on another machine.
MAX_OTHERS = 0.1

Arrays = Mapping[str, np.ndarray]


def difference(
    recorded: predict_pb2.PredictResponse,
    answered: predict_pb2.PredictResponse,
    is_approximate: bool,
) -> str | None:
    """How an answer differs from the recorded one.

    Args:
      recorded: By the export.
      answered: To the same request.
      is_approximate: Whether an approximate index was asked: one in ten tags of a list may be
        another one then.

    Returns:
      The first output that differs and how, to follow the name of the signature; None: none does.
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
    """The outputs that have a number for each place of a list of texts."""
    if texts.ndim < 2:
        return []
    return [n for n, a in arrays.items() if a.dtype.kind == "f" and a.shape == texts.shape]


def _tolerance(array: np.ndarray) -> float:
    finite = array[np.isfinite(array)]
    return TOLERANCE * float(np.max(np.abs(finite), initial=0.0)) + 1e-6


def _are_close(one: np.ndarray, other: np.ndarray, tolerance: Any) -> np.ndarray:
    return np.isclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)


def _wrong_rows(before: Arrays, now: Arrays, name: str, is_approximate: bool) -> np.ndarray:
    """Which rows of a list differ by more than near-ties that changed places, bool [rows]."""
    num_places = before[name].shape[-1]
    if not num_places:
        return np.zeros(0, bool)
    scores = _scores(before, before[name])
    tolerances = [_tolerance(before[score]) for score in scores]
    # Another text counts twice: as one that is gone and as one that came.
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
    """One list: the numbers of each text in it.

    Args:
      texts: In order, string [places]; one that is there again is one more.
      numbers: Float [places] each.
    """

    def __init__(self, texts: np.ndarray, numbers: list[np.ndarray]):
        seen: collections.Counter = collections.Counter()
        self._numbers: dict[tuple[bytes, int], np.ndarray] = {}
        for place, text in enumerate(texts):
            self._numbers[text, seen[text]] = np.array([of[place] for of in numbers])
            seen[text] += 1
        self._last = np.array([of[-1] for of in numbers])

    def num_missing_in(self, other: "_Row", tolerances: list[float]) -> int:
        """Texts that another list should have: those near its end may be the next ones there."""
        missing = [n for text, n in self._numbers.items() if text not in other._numbers]
        # Contributions are in order of their size, whatever their sign.
        return sum(
            not _is_close(numbers, other._last, tolerances)
            and not _is_close(np.abs(numbers), np.abs(other._last), tolerances)
            for numbers in missing
        )

    def has_others_numbers(self, other: "_Row", tolerances: list[float]) -> bool:
        """Whether a text of both has other numbers in the other."""
        return any(
            not _is_close(numbers, other._numbers[text], tolerances)
            for text, numbers in self._numbers.items()
            if text in other._numbers
        )


def _is_close(one: np.ndarray, other: np.ndarray, tolerances: Any) -> bool:
    return bool(np.all(_are_close(one, other, tolerances)))
