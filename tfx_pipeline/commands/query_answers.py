"""Prints answers of `tagtower query`: a table for people, one JSON object for machines."""

import argparse
import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.client import Retrieval, TagExplanation, TagNeighbours


def show_profile(
    answer: "Retrieval", items: list[str] | None, arguments: argparse.Namespace
) -> None:
    """Prints a user's tags, and the items that they recall."""
    profile = answer.profiles[0]
    if arguments.json:
        content: dict[str, Any] = {
            "tags": profile.tags,
            "scores": profile.scores,
            "probabilities": profile.probabilities,
            "version": answer.model_version,
        }
        if items is not None:
            content["items"] = items
        print(json.dumps(content, ensure_ascii=False))
        return
    from tfx_pipeline.terminal.tables import format_table

    # A version older than probabilities has none.
    probabilities = profile.probabilities or [None] * len(profile.tags)
    columns = zip(profile.tags, profile.scores, probabilities, strict=True)
    rows = [[rank, *row] for rank, row in enumerate(columns, start=1)]
    print(format_table(["rank", "tag", "score", "probability"], rows))
    if items is not None:
        print(f"items {' '.join(items)}")
    print(f"model version {answer.model_version}")


def show_explanation(
    explanation: "TagExplanation", model_version: int, arguments: argparse.Namespace
) -> None:
    """Prints what a score comes from, by value and by feature.

    Raises:
      ValueError: The model does not know the tag.
    """
    if math.isnan(explanation.score):
        raise ValueError(
            f"`explain` must be a tag that the model knows. Received: {explanation.tag}."
        )
    values = explanation.values[: arguments.num_tags]
    if arguments.json:
        content = {
            **dataclasses.asdict(explanation),
            "values": [dataclasses.asdict(value) for value in values],
            "version": model_version,
        }
        print(json.dumps(content, ensure_ascii=False))
        return
    from tfx_pipeline.terminal.tables import format_table

    print(f"{explanation.tag}: score {explanation.score:.3f}; without ... it changes by")
    print()
    rows = [[v.domain, v.value, 0.0 - v.contribution, v.attention] for v in values]
    print(format_table(["value of", "", "change", "attention"], rows))
    print()
    rows = [[x.feature, 0.0 - x.contribution, x.attention] for x in explanation.features]
    print(format_table(["all of", "change", "attention"], rows))
    print(f"model version {model_version}")


def show_neighbours(
    neighbours: "TagNeighbours", model_version: int, arguments: argparse.Namespace
) -> None:
    """Prints the tags nearest to a tag.

    Raises:
      ValueError: There are no such tags.
    """
    if not neighbours.tags:
        raise ValueError(
            f"`similar` must be a tag that the model knows and serves. Received: {neighbours.tag}."
        )
    if arguments.json:
        content = {**dataclasses.asdict(neighbours), "version": model_version}
        print(json.dumps(content, ensure_ascii=False))
        return
    from tfx_pipeline.terminal.tables import format_table

    columns = zip(neighbours.tags, neighbours.scores, strict=True)
    rows = [[rank, *row] for rank, row in enumerate(columns, start=1)]
    print(format_table(["rank", f"near {neighbours.tag}", "cosine"], rows))
    print(f"model version {model_version}")
