"""A user's fresh events to the features of one pushed version.

Every value comes from `trainer.history` and `trainer.tag_normalization`, which also made the
training examples. What the caller must know of a version is in the file beside it, so neither the
configuration of the run nor TensorFlow is needed. Nothing is asked of a server.
"""

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from serving.feature_tensors import FeatureValue
from trainer.config_loader import from_mapping, require
from trainer.features import FeatureSpec
from trainer.file_system import is_folder, open_file
from trainer.history import UserEvents, feature_values
from trainer.signatures import DESCRIPTION_FILE
from trainer.tag_normalization import TagNormalization


@dataclasses.dataclass(frozen=True)
class EventFeatures:
    """Makes instances out of users' events.

    Attributes:
      spec: The features of the version.
      tag_normalization: How the tags of its log were normalised.
    """

    spec: FeatureSpec
    tag_normalization: TagNormalization

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EventFeatures":
        """Reads the description of a version.

        Args:
          path: The folder of a pushed version, or its `tagtower.json`, wherever it was copied to.

        Returns:
          What makes that version's features.

        Raises:
          ValueError: If there is no description of features.
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
            from_mapping(FeatureSpec, description["features"], "features"),
            from_mapping(TagNormalization, description["tag_normalization"], "tag_normalization"),
        )

    def instance(
        self,
        events: Iterable[Mapping[str, Any]],
        profile: Mapping[str, str] | None = None,
        at: float | None = None,
    ) -> dict[str, FeatureValue]:
        """Makes the instance of one user.

        Args:
          events: Of this user, in any order, each with `item_id`, `timestamp` (seconds, UTC, or
            any other form of a time that the tables may have), `clicked` (0 or 1), the `tags` of
            the item as the items table has them, its `category` where a feature lists categories,
            and optionally `weight`. An event whose `tags` are given and empty is left out, as the
            examples were made without items that have none.
          profile: Profile features by name; those left out are unknown, and so are all of None.
          at: The time to answer for, seconds, UTC; later events do not count. None: now.

        Returns:
          Features by name, for the calls of a client.

        Raises:
          ValueError: If an event lacks something or a value is of the wrong kind.
        """
        given = [(event, self._record(event)) for event in events]
        # All of them are looked at, also those that are left out.
        found = UserEvents.from_records(record for _, record in given)
        kept = [record for event, record in given if record["tags"] or "tags" not in event]
        if len(kept) < len(given):
            found = UserEvents.from_records(kept)
        self._check_profile(profile or {})
        at = time.time() if at is None else at
        return feature_values(found, profile, at, self.spec)

    def _record(self, event: Mapping[str, Any]) -> dict[str, Any]:
        for domain in self.spec.domains:
            # One without would count as an item that has none, in silence.
            require(
                domain.attribute in event,
                "events",
                f"have the {domain.attribute} of their item, which `{domain.name}` lists",
                dict(event),
            )
        tags, category = event.get("tags"), event.get("category")
        tags = () if tags is None else tags
        is_list = not isinstance(tags, str) and all(isinstance(tag, str) for tag in tags)
        require(is_list, "tags", "be a list of strings", tags)
        is_text = category is None or isinstance(category, str)
        require(is_text, "category", 'be a string, "" where unknown', category)
        return {**event, "tags": [tag for tag in self.tag_normalization.apply(tags) if tag]}

    def _check_profile(self, profile: Mapping[str, str]) -> None:
        known = [feature.name for feature in self.spec.profile]
        unknown = sorted(set(profile) - set(known))
        demand = f"name profile features ({', '.join(known)})"
        require(not unknown, "profile", demand, ", ".join(unknown))
        for name, value in profile.items():
            require(isinstance(value, str), name, 'be a string, "" where unknown', value)
