"""Finds a tag that a person typed in `tagtower query`, in the spelling of the served version.

A server does not report how the tags of its version were normalised, so it is asked for every
possible spelling (`trainer.contract.tag_normalization.spellings`), and the first that it knows
counts.
"""

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.contract.tag_normalization import spellings

if TYPE_CHECKING:
    from serving.client import TagClient, TagExplanation, TagNeighbours


def known_neighbours(
    client: "TagClient", tag: str, num_tags: int | None
) -> tuple["TagNeighbours", int]:
    """Returns the tags nearest to a tag, none if no spelling is known, and the version."""
    typed = spellings(tag) or [tag]
    answer = client.similar_tags(typed, num_tags=num_tags)
    known = [near for near in answer.neighbours if near.tags]
    return (known or answer.neighbours)[0], answer.model_version


def known_explanation(
    client: "TagClient", features: Mapping[str, Any], tag: str
) -> tuple["TagExplanation", int]:
    """Returns what a tag's score comes from, NaN if no spelling is known, and the version."""
    typed = spellings(tag) or [tag]
    answer = client.explain([features] * len(typed), typed)
    known = [each for each in answer.explanations if not math.isnan(each.score)]
    return (known or answer.explanations)[0], answer.model_version


def note_spellings(client: "TagClient", features: Mapping[str, Any]) -> None:
    """Prints which values are not tags as typed, but would be in another spelling.

    A server does not report which features hold tags, so nothing is changed.
    """
    from serving.client import TagClientError

    lists = [values for values in features.values() if isinstance(values, list)]
    values = dict.fromkeys(value for each in lists for value in each if isinstance(value, str))
    typed = {value: found for value in values if len(found := spellings(value)) > 1}
    if not typed:
        return
    asked = list(dict.fromkeys(spelling for found in typed.values() for spelling in found))
    try:
        answer = client.similar_tags(asked, num_tags=1)
    except TagClientError:
        return  # the version is older than neighbours, or the next call fails in the same way
    known = {near.tag for near in answer.neighbours if near.tags}
    for value, found in typed.items():
        others = [spelling for spelling in found if spelling in known]
        if others and value not in known:
            print(
                f"note: the model does not know the tag {value!r}, but knows {others[0]!r}. Give "
                "--config, which normalises --features as training's tags were.",
                file=sys.stderr,
            )
