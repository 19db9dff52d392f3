"""Whether a version answers as it did when it was exported.

A manifest sees other bytes; this sees other answers, whatever they come from: a vocabulary in
another order, weights that were changed with the manifest, a library that computes otherwise.
Machines compute with other instructions and differ in the last digits, so that near-ties change
places: scores are compared within `TOLERANCE`, and tags by the scores that they have.
"""

import collections
import math
from collections.abc import Mapping

import numpy as np

from serving.serving_api import predict_pb2
from serving.tensor_proto import to_numpy

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
            wrong = ~_is_close(array, now[name], _tolerance(array))
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


def _is_close(one: np.ndarray, other: np.ndarray, tolerance: float) -> np.ndarray:
    return np.isclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)


def _wrong_rows(before: Arrays, now: Arrays, name: str, is_approximate: bool) -> np.ndarray:
    """Which rows of a list differ by more than near-ties that changed places, bool [rows]."""
    num_places = before[name].shape[-1]
    scores = _scores(before, before[name])
    tolerances = [_tolerance(before[score]) for score in scores]

    def rows(arrays: Arrays, output: str) -> np.ndarray:
        return arrays[output].reshape(-1, num_places)

    wrong = []
    for i, (one, other) in enumerate(
        zip(rows(before, name), rows(now, name), strict=True) if num_places else ()
    ):
        numbers = [[rows(arrays, score)[i] for score in scores] for arrays in (before, now)]
        sides = [_by_text(texts, of) for texts, of in zip((one, other), numbers, strict=True)]
        others = sum(
            not _has_place(text, mine, theirs, last, tolerances)
            for mine, theirs, last in (
                (sides[0], sides[1], [n[-1] for n in numbers[1]]),
                (sides[1], sides[0], [n[-1] for n in numbers[0]]),
            )
            for text in mine
        )
        moved = any(
            not _are_close(numbers_of, sides[1][text], tolerances)
            for text, numbers_of in sides[0].items()
            if text in sides[1]
        )
        # Another tag is counted twice: as one that is missing and as one that came.
        most = 2 * math.floor(MAX_OTHERS * num_places) if is_approximate else 0
        wrong.append(moved or others > most)
    return np.array(wrong, bool)


def _by_text(texts: np.ndarray, numbers: list[np.ndarray]) -> dict[tuple, list[float]]:
    """The numbers of each text of a row; one that is there again is one more."""
    seen: collections.Counter = collections.Counter()
    found = {}
    for place, text in enumerate(texts):
        found[text, seen[text]] = [float(of[place]) for of in numbers]
        seen[text] += 1
    return found


def _has_place(text, mine: dict, theirs: dict, last: list[float], tolerances: list[float]) -> bool:
    """Whether a text of one list is in the other too, or was near the end of that."""
    if text in theirs:
        return True
    # Contributions are in order of their size, whatever their sign.
    sizes = [abs(number) for number in mine[text]], [abs(number) for number in last]
    return _are_close(mine[text], last, tolerances) or _are_close(*sizes, tolerances)


def _are_close(one: list[float], other: list[float], tolerances: list[float]) -> bool:
    return all(
        bool(_is_close(np.float64(a), np.float64(b), tolerance))
        for a, b, tolerance in zip(one, other, tolerances, strict=True)
    )
