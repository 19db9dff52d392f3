"""Features of one pushed version, computed from a user's fresh events.

Every value is computed by `trainer.contract.history` and `trainer.contract.tag_normalization`,
which also made the training examples. The version's own description file holds everything that the
caller must know, so neither the configuration of the run nor TensorFlow nor a server is needed.
"""

import dataclasses
import json
import os
import time
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tagtower_client.event_times import LAST_SECOND
from tagtower_client.feature_tensors import FeatureValue
from trainer.contract.config_loader import from_saved, require
from trainer.contract.features import FeatureSpec, weights_name
from trainer.contract.file_system import is_folder, open_file
from trainer.contract.history import UserEvents, check_profile, feature_values
from trainer.contract.signatures import DESCRIPTION_FILE
from trainer.contract.tag_normalization import TagNormalization


@dataclasses.dataclass(frozen=True)
class EventFeatures:
    """Computes instances from users' events.

    Attributes:
      spec: Features of the version.
      tag_normalization: Rules that normalised the tags of the version's log.
    """

    spec: FeatureSpec
    tag_normalization: TagNormalization

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "EventFeatures":
        """Reads the description of a version.

        Args:
          path: Folder of a pushed version, or a copy of its `tagtower.json` in any place.

        Returns:
          An object that computes the features of that version.

        Raises:
          ValueError: If `path` has no description of features.
        """
        file_path = os.fspath(path)
        if is_folder(file_path):
            file_path = os.path.join(file_path, DESCRIPTION_FILE)
        try:
            with open_file(file_path) as file:
                description = json.load(file)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`path` must be the folder of a pushed version, or its {DESCRIPTION_FILE}. "
                f"Received: path={os.fspath(path)!r} ({error})."
            ) from error
        known = sorted(description) if isinstance(description, dict) else []
        for key in ("features", "tag_normalization"):
            demand = f"name a description with the key `{key}`, as `tagtower run` pushes it"
            require(key in known, "path", demand, os.fspath(path))
        return cls(
            from_saved(FeatureSpec, description["features"], "features"),
            TagNormalization.of_version(description["tag_normalization"], "tag_normalization"),
        )

    def instance(
        self,
        events: Iterable[Mapping[str, Any]],
        profile: Mapping[str, Any] | None = None,
        at: float | None = None,
    ) -> dict[str, FeatureValue]:
        """Computes the instance of one user.

        Args:
          events: Events of the user, in any order, each with `item_id`, `timestamp` (seconds, UTC,
            or any other form of a time that the tables may have), `clicked` (0 or 1), the `tags` of
            the item as the items table has them, its `category` if a feature lists categories, and
            optionally `weight`. An event with an empty list of `tags` is left out, because the
            training examples were made without items that have no tags.
          profile: Profile features by name; by its type each is a string, a number or a list of
            strings. Features that are left out are unknown; None: all are unknown.
          at: Time to answer for, seconds, UTC; later events do not count. None: now.

        Returns:
          Features by name, for the calls of a client.

        Raises:
          ValueError: If an event lacks a field, or a value is of the wrong kind.
        """
        given = [(event, self._record(event)) for event in events]
        # All events are checked, also those that are left out.
        found = UserEvents.from_records(record for _, record in given)
        kept = [record for event, record in given if record["tags"] or "tags" not in event]
        if len(kept) < len(given):
            found = UserEvents.from_records(kept)
        check_profile(profile or {}, self.spec)
        at = time.time() if at is None else at
        # With NaN every event would count, with the weight NaN.
        is_time = isinstance(at, int | float | np.number) and abs(at) <= LAST_SECOND
        require(is_time, "at", "be a time in seconds since 1970, UTC, not milliseconds", at)
        return feature_values(found, profile, at, self.spec)

    def normalized(self, instance: Mapping[str, FeatureValue]) -> dict[str, FeatureValue]:
        """Normalises the tags of an instance whose features were made by hand.

        Args:
          instance: Features by name.

        Returns:
          Features by name, with the tags in domains of tags as the version spells them; a tag that
          is listed in several spellings is listed once, with the sum of their weights.
        """
        found = dict(instance)
        for domain in self.spec.domains:
            tags: Any = instance.get(domain.name)
            if domain.attribute != "tags" or not _is_list_of(tags, str):
                continue
            normalized = self.tags(tags, keeps_empty=True)
            if normalized == list(tags):
                continue
            name = weights_name(domain.name)
            weights: Any = instance.get(name, [1.0] * len(normalized))
            if not _is_list_of(weights, int | float) or len(weights) != len(normalized):
                continue  # the client's call raises an error that says what is wrong
            sums: dict[str, float] = {}
            for tag, weight in zip(normalized, weights, strict=True):
                if tag:
                    sums[tag] = sums[tag] + weight if tag in sums else weight
            found[domain.name], found[name] = list(sums), list(sums.values())
        return found

    def tags(self, tags: Iterable[str], keeps_empty: bool = False) -> list[str]:
        """Returns tags as the version spells them, for `exclude_tags`, `score_tags` and others.

        Args:
          tags: Tags as the items table has them, or as a user typed them.
          keeps_empty: Whether a tag of which nothing is left keeps its place, as "".

        Returns:
          The normalised tags.
        """
        normalized = self.tag_normalization.apply(tags)
        return normalized if keeps_empty else [tag for tag in normalized if tag]

    def _record(self, event: Mapping[str, Any]) -> dict[str, Any]:
        for domain in self.spec.domains:
            # Without this check an event that lacks the field would silently count as one of an
            # item without values.
            require(
                domain.attribute in event,
                "events",
                f"have the {domain.attribute} of their item, which `{domain.name}` lists",
                dict(event),
            )
        tags = event.get("tags")
        tags = () if tags is None else tags
        is_list = not isinstance(tags, str) and all(isinstance(tag, str) for tag in tags)
        require(is_list, "tags", "be a list of strings", tags)
        return {**event, "tags": self.tags(tags)}


def _is_list_of(value: Any, kind: type | types.UnionType) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return is_list and all(isinstance(each, kind) for each in value)
