"""Behaviour domains and profile features as data, and every feature name, written once.

A *domain* lists values (tags, categories or item ids) of a user's earlier events; a *profile
feature* is one value of the user. What exists is declared in the configuration: a new log needs no
code. Computing the values is `trainer.history`'s work, turning them into ids
`tfx_pipeline.preprocessing`'s.
"""

import dataclasses
from typing import Literal

from trainer.config_loader import require

# Identity of an example. Not features: they never enter a tower.
USER_ID = "user_id"
SNAPSHOT_TIME = "snapshot_time"  # seconds, UTC; features see only events before it

# Labels: tags of the items clicked at or after the snapshot's time, with the number of such clicks.
LABEL_TAGS = "label_tags"
LABEL_TAG_WEIGHTS = "label_tags_weights"

# Labels of the click head: impressions at or after the snapshot's time. The tags of all impressions
# lie one after the other; `IMPRESSION_NUM_TAGS` says how many belong to each.
IMPRESSION_TAGS = "impression_tags"
IMPRESSION_NUM_TAGS = "impression_num_tags"
IMPRESSION_CLICKED = "impression_clicked"
IMPRESSION_WEIGHTS = "impression_weights"

# What evaluation needs beside the labels: every tag clicked before the snapshot's time, uncapped,
# with counts (the own-history baseline, and what is novel), and the number of events before it.
HISTORY_TAGS = "history_tags"
HISTORY_TAG_COUNTS = "history_tags_counts"
HISTORY_NUM_EVENTS = "history_num_events"

# And what the evaluation of items needs: the distinct items clicked at or after, and before it.
LABEL_ITEMS = "label_items"
HISTORY_ITEMS = "history_items"

RESERVED_NAMES = frozenset(
    {
        USER_ID,
        SNAPSHOT_TIME,
        LABEL_TAGS,
        LABEL_TAG_WEIGHTS,
        IMPRESSION_TAGS,
        IMPRESSION_NUM_TAGS,
        IMPRESSION_CLICKED,
        IMPRESSION_WEIGHTS,
        HISTORY_TAGS,
        HISTORY_TAG_COUNTS,
        HISTORY_NUM_EVENTS,
        LABEL_ITEMS,
        HISTORY_ITEMS,
        # Inputs that signatures have beside the features.
        "examples",
        "candidate_tags",
        "item_tags",
        "explained_tag",
        "exclude_tags",
        "allow_categories",
        "similar_to",
        "query_embeddings",
    }
)

# Of the labels, hence of the candidates; a domain of tags shares it by default.
TAG_VOCABULARY = "tags"

SPLITS = ("train", "validation", "test")
NOW_SPLIT = "now"  # one snapshot of every user after all events: the input of batch prediction


def weights_name(domain: str) -> str:
    """Name of the weights beside the values of `domain`."""
    return f"{domain}_weights"


FEATURES_KEY = "features"  # of `custom_config` of Transform and Trainer: the `FeatureSpec` as JSON


@dataclasses.dataclass(frozen=True)
class ProfileFeature:
    """One single-valued feature of a user, a column of the `users` table.

    Attributes:
      name: The column.
      num_oov_buckets: Hash buckets for values that training never saw; the empty string (unknown)
        is a value of its own.
      values: If given, the values the schema allows; others are anomalies that fail the run.
    """

    name: str
    num_oov_buckets: int = 1
    values: tuple[str, ...] = ()

    def __post_init__(self):
        _check_name(self.name)
        require(self.num_oov_buckets >= 1, "num_oov_buckets", "be at least 1", self.num_oov_buckets)


@dataclasses.dataclass(frozen=True)
class Domain:
    """One list-valued behaviour feature.

    Attributes:
      name: Name of the feature; its weights are `<name>_weights`.
      attribute: Which attribute of the items it lists.
      events: Of which events: clicked, or shown and skipped.
      window_days: How far back it looks, in days; null: as far as `history_window_days`.
      max_values: How many values at most; those with the highest weight are kept.
      weighting: `count`: the number of events, whatever their weight; `recency`: the sum of their
        weights (1 where the log has none), each halved every `half_life_days`.
      half_life_days: Of `recency`, in days.
      vocabulary: Name of its vocabulary; domains (and the label, whose vocabulary is `tags`) that
        name the same one share it. Default: the attribute's name.
    """

    name: str
    attribute: Literal["tags", "category", "item_id"] = "tags"
    events: Literal["clicked", "skipped"] = "clicked"
    window_days: float | None = None
    max_values: int = 100
    weighting: Literal["count", "recency"] = "count"
    half_life_days: float = 30.0
    vocabulary: str | None = None

    def __post_init__(self):
        _check_name(self.name)
        _check_name(weights_name(self.name))
        require(
            self.vocabulary is None or self.vocabulary.isidentifier(),
            "vocabulary",
            "be a letter followed by letters, digits or _",
            self.vocabulary,
        )
        require(self.max_values >= 1, "max_values", "be a positive integer", self.max_values)
        require(self.half_life_days > 0, "half_life_days", "be positive", self.half_life_days)
        if self.window_days is not None:
            require(self.window_days > 0, "window_days", "be positive or null", self.window_days)

    @property
    def vocabulary_name(self) -> str:
        """The vocabulary in use, after the default."""
        return self.vocabulary or self.attribute


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Limits of one vocabulary.

    Attributes:
      max_size: The most frequent values kept; null: all.
      min_frequency: Occurrences in training examples below which a value is out of vocabulary.
      num_oov_buckets: Hash buckets for values out of vocabulary (never for labels).
    """

    max_size: int | None = None
    min_frequency: int = 1
    num_oov_buckets: int = 1

    def __post_init__(self):
        if self.max_size is not None:
            require(self.max_size >= 1, "max_size", "be a positive integer or null", self.max_size)
        require(
            self.min_frequency >= 1, "min_frequency", "be a positive integer", self.min_frequency
        )
        require(self.num_oov_buckets >= 1, "num_oov_buckets", "be at least 1", self.num_oov_buckets)


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """All features of a model.

    Attributes:
      history_window_days: Bounds every domain, in days; null: unlimited.
      profile: The profile features.
      domains: The behaviour domains.
      vocabularies: Limits by vocabulary name; those not named have the defaults of `Vocabulary`.
    """

    history_window_days: float | None = None
    profile: tuple[ProfileFeature, ...] = ()
    domains: tuple[Domain, ...] = ()
    vocabularies: dict[str, Vocabulary] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.history_window_days is not None:
            require(
                self.history_window_days > 0,
                "history_window_days",
                "be positive or null",
                self.history_window_days,
            )
        require(
            bool(self.domains or self.profile),
            "domains",
            "name at least one domain or profile feature",
            (),
        )
        names = [feature.name for feature in self.profile]
        for domain in self.domains:
            names += [domain.name, weights_name(domain.name)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        require(not repeated, "domains", "have names of their own", ", ".join(repeated))
        known = {domain.vocabulary_name for domain in self.domains} | {TAG_VOCABULARY}
        unknown = sorted(set(self.vocabularies) - known)
        require(
            not unknown,
            "vocabularies",
            f"name vocabularies in use ({', '.join(sorted(known))})",
            ", ".join(unknown),
        )
        # Files of the transform are named after vocabularies.
        taken = {profile_vocabulary_name(feature.name) for feature in self.profile}
        clashing = sorted(known & taken)
        require(not clashing, "vocabulary", "not be a name kept for others", ", ".join(clashing))
        for domain in self.domains:
            if domain.vocabulary_name == TAG_VOCABULARY:
                require(
                    domain.attribute == "tags",
                    "vocabulary",
                    f"not be `{TAG_VOCABULARY}` for a domain that does not list tags",
                    domain.name,
                )

    def vocabulary(self, name: str) -> Vocabulary:
        """Limits of the vocabulary `name`."""
        return self.vocabularies.get(name, Vocabulary())

    @property
    def raw_names(self) -> tuple[str, ...]:
        """Names of all raw features, profile first, each domain followed by its weights."""
        names = [feature.name for feature in self.profile]
        for domain in self.domains:
            names += [domain.name, weights_name(domain.name)]
        return tuple(names)


def profile_vocabulary_name(feature: str) -> str:
    """Vocabulary name of a profile feature (a vocabulary of its own)."""
    return f"profile_{feature}"


def _check_name(name: str) -> None:
    require(name.isidentifier(), "name", "be a letter followed by letters, digits or _", name)
    require(name not in RESERVED_NAMES, "name", "not be one of the names kept for labels", name)
