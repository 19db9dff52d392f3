"""Scores served tags against the interests that the synthetic log planted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tfx_pipeline.tables.read_limits import ReadLimits, lines_of
from trainer.contract.file_system import open_file
from trainer.contract.tag_normalization import TagNormalization

PLANTED_FILE = "planted.jsonl"


@dataclasses.dataclass(frozen=True)
class PlantedPrecision:
    """How many planted interests were found; every mean is over the `num_users` scored users.

    Attributes:
      precision: Mean over users of the share of the first n served tags that are planted, where n
        is the number of the user's planted interests; None without a user to score.
      random: Expected value by chance: the mean of n / number of tags; None without a user.
      interests_found: Mean share of the ordinary interests among the first n; None without a user.
      cross_interests_found: Mean share of the cross interests among the first n; None where no
        scored user has any.
      num_users: Number of users scored.
      num_users_without_events: Number of users left out because they have no events in the log.
    """

    precision: float | None
    random: float | None
    interests_found: float | None
    cross_interests_found: float | None
    num_users: int
    num_users_without_events: int


def read_planted(
    path: str, normalization: TagNormalization | None = None
) -> Iterator[dict[str, Any]]:
    """Reads the rows of a `planted.jsonl`.

    Args:
      path: Path of the file.
      normalization: Normalisation of the log's tags, with which the interests are compared; None:
        the interests are not normalised.

    Yields:
      The row of a user.

    Raises:
      ValueError: A line is not such a row.
    """
    with open_file(path, "rb") as stream:
        for number, line in enumerate(lines_of(stream, path, ReadLimits()), start=1):
            try:
                row = json.loads(line)
                if normalization is not None:
                    for name in ("interests", "cross_interests"):
                        row[name] = normalization.apply(row[name])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(
                    "`data.planted` must be a file of interests that `tagtower prepare demo` "
                    f"wrote. Received: {path}, line {number}."
                ) from error
            yield row


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def planted_precision(
    served: Mapping[str, Sequence[str]], planted: Iterable[Mapping[str, Any]], num_tags: int
) -> PlantedPrecision:
    """Computes the precision at n of served tags, with n planted interests of a user.

    A user's planted interests are the ordinary and the cross ones together, n of them. The first n
    tags of the served list count, each once; a list shorter than n counts as if it continued with
    wrong tags. So 1 means that the first n tags are all planted interests, in any order. Users
    without any event are left out and counted; users who are not in `served` are left out and not
    counted.

    Args:
      served: Served tags by user id, best first.
      planted: Rows of `planted.jsonl`, see `read_planted`.
      num_tags: Size of the tag vocabulary, for the value by chance.

    Returns:
      The means over users.

    Raises:
      ValueError: A served user is not among the planted ones, or `num_tags` is not positive.
    """
    if num_tags < 1:
        raise ValueError(f"`num_tags` must be a positive integer. Received: num_tags={num_tags}.")
    precisions: list[float] = []
    chances: list[float] = []
    ordinary_found: list[float] = []
    cross_found: list[float] = []
    num_without_events = 0
    unknown = set(served)
    for row in planted:
        user_id = row["user_id"]
        if user_id not in unknown:
            continue
        unknown.remove(user_id)
        if not row["num_events"]:
            num_without_events += 1
            continue
        interests, cross = set(row["interests"]), set(row["cross_interests"])
        n = len(interests | cross)
        first = set(served[user_id][:n])
        precisions.append(len(first & (interests | cross)) / n)
        chances.append(n / num_tags)
        ordinary_found.append(len(first & interests) / len(interests))
        if cross:
            cross_found.append(len(first & cross) / len(cross))
    if unknown:
        raise ValueError(
            "`served` must hold users of the planted log only. "
            f"Received: {len(unknown)} other(s), one is {min(unknown)!r}."
        )
    return PlantedPrecision(
        precision=_mean(precisions),
        random=_mean(chances),
        interests_found=_mean(ordinary_found),
        cross_interests_found=_mean(cross_found),
        num_users=len(precisions),
        num_users_without_events=num_without_events,
    )
