"""Declarations of behaviour domains and profile features, and all names of features.

A *domain* lists values (tags, categories or item ids) of a user's earlier events; a *profile
feature* is something else known of the user: one category, one number, or a list of categories.
The configuration declares them, so a new log needs no code. `trainer.contract.history` computes
their values, and `tfx_pipeline.preprocessing` turns these into ids.
"""

import dataclasses
from typing import Literal

from tagtower_client.signatures import weights_name as weights_name
from trainer.contract import config_bounds as bounds
from trainer.contract.config_loader import require

# Columns that identify an example. They are not features: they never enter a tower.
USER_ID = "user_id"
SNAPSHOT_TIME = "snapshot_time"  # seconds, UTC; features see only events before it

# Labels: tags of the items clicked at or after the snapshot's time, with the number of such clicks.
LABEL_TAGS = "label_tags"
LABEL_TAG_WEIGHTS = "label_tags_weights"

# Labels of the click head: impressions at or after the snapshot's time. The tags of all impressions
# are one list; `IMPRESSION_NUM_TAGS` says how many belong to each impression.
IMPRESSION_TAGS = "impression_tags"
IMPRESSION_NUM_TAGS = "impression_num_tags"
IMPRESSION_CLICKED = "impression_clicked"
IMPRESSION_WEIGHTS = "impression_weights"

# Columns for evaluation beside the labels: every tag clicked before the snapshot's time, uncapped,
# with counts (for the own-history baseline and for novelty), and the number of events before it.
HISTORY_TAGS = "history_tags"
HISTORY_TAG_COUNTS = "history_tags_counts"
HISTORY_NUM_EVENTS = "history_num_events"

# Columns for the evaluation of items: the distinct items clicked at or after, and before that time.
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
        # Inputs of signatures beside the features.
        "examples",
        "candidate_tags",
        "item_tags",
        "explained_tag",
        "exclude_tags",
        "allow_categories",
        "similar_to",
        "query_embeddings",
        "event_tags",
        "event_num_tags",
        "event_category",
        "event_item_id",
        "event_clicked",
        "event_time",
        "event_weight",
        "num_events",
        "now",
    }
)

# The vocabulary of the labels, hence of the candidates; a domain of tags shares it by default.
TAG_VOCABULARY = "tags"

SPLITS = ("train", "validation", "test")
NOW_SPLIT = "now"  # one snapshot of every user after all events: input of batch prediction


FEATURES_KEY = "features"  # key of the `FeatureSpec` (JSON) in TFX's `custom_config`


@bounds.checked
@dataclasses.dataclass(frozen=True)
class ProfileFeature:
    """One feature of a user, a column of the `users` table.

    Attributes:
      name: Name of the column.
      type: Kind of the values. `text`: one category; a number becomes its decimal text. `number`:
        one number, of which the model sees its bucket between quantiles of the training examples.
        `list`: any number of categories, pooled like the values of a domain.
      num_oov_buckets: Number of hash buckets for values of a `text` or a `list` that training never
        saw; the empty `text` (unknown) is a value of its own.
      values: Values that the schema allows in a `text` or a `list`, if given; others are anomalies
        that fail the run.
      num_buckets: Largest number of buckets of a `number`, each with about equally many training
        examples; equal numbers share a bucket. A missing number is a further value. null: 20.
      separator: Separator of the values of a `list` where they are one text, as in CSV: any text,
        `json` or `python`, as `data.list_separator` for tags. null: `json`, so that a text with an
        undeclared separator is set aside and not taken for one value.
      max_values: Number of values of a `list` that are kept, the first ones. null: 50.
    """

    name: str
    type: Literal["text", "number", "list"] = "text"
    num_oov_buckets: bounds.AtLeastOne = 1
    values: tuple[str, ...] = ()
    num_buckets: int | None = None
    separator: str | None = None
    max_values: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        for key, types, default in (
            ("num_oov_buckets", ("text", "list"), 1),
            ("values", ("text", "list"), ()),
            ("num_buckets", ("number",), None),
            ("separator", ("list",), None),
            ("max_values", ("list",), None),
        ):
            value = getattr(self, key)
            require(
                self.type in types or value == default,
                key,
                f"be left out of `{self.name}`, which is of `type: {self.type}`",
                value,
            )
        for key, at_least in (("num_buckets", 2), ("max_values", 1)):
            value = getattr(self, key)
            require(value is None or value >= at_least, key, f"be at least {at_least}", value)
        require(self.separator != "", "separator", "not be empty", self.separator)

    @property
    def is_number(self) -> bool:
        """Whether the feature is one number."""
        return self.type == "number"

    @property
    def is_list(self) -> bool:
        """Whether the feature has any number of values, without weights."""
        return self.type == "list"

    @property
    def vocabulary_name(self) -> str:
        """Name of the feature's own vocabulary, which for a `number` holds its buckets."""
        return profile_vocabulary_name(self.name)

    @property
    def has_weights(self) -> bool:
        """Whether the values have weights, as those of a `Domain` do: never, each counts once."""
        return False

    @property
    def effective_num_buckets(self) -> int:
        """The number of buckets in use: `num_buckets` or its default."""
        return 20 if self.num_buckets is None else self.num_buckets

    @property
    def effective_separator(self) -> str:
        """The separator in use: `separator` or its default."""
        return "json" if self.separator is None else self.separator

    @property
    def effective_max_values(self) -> int:
        """The number of values kept: `max_values` or its default."""
        return 50 if self.max_values is None else self.max_values


@bounds.checked
@dataclasses.dataclass(frozen=True)
class Domain:
    """One list-valued behaviour feature.

    Attributes:
      name: Name of the feature; its weights are named `<name>_weights`.
      attribute: Attribute of the items that the domain lists.
      events: Events that count: clicked ones, or ones shown and skipped.
      window_days: Length of the window before the snapshot's time, in days; null: only
        `history_window_days` limits it.
      last_events: Number of events in the window that count, the last ones; null: all. One domain
        of clicked tags should count all events: the linear path and EASE read it.
      max_values: Largest number of values; those with the highest weights are kept.
      weighting: Weight of a value. `count`: the number of events, whatever their weights;
        `recency`: the sum of the events' weights (1 where the log has none), each halved every
        `half_life_days`.
      half_life_days: Half-life of an event's weight with `recency`, in days.
      vocabulary: Name of the vocabulary; domains (and the label, whose vocabulary is `tags`) that
        name the same one share it. Default: the attribute's name.
    """

    name: str
    attribute: Literal["tags", "category", "item_id"] = "tags"
    events: Literal["clicked", "skipped"] = "clicked"
    window_days: bounds.PositiveOrNull = None
    last_events: bounds.PositiveIntegerOrNull = None
    max_values: bounds.PositiveInteger = 1_000
    weighting: Literal["count", "recency"] = "count"
    half_life_days: bounds.Positive = 30.0
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_name(weights_name(self.name))
        require(
            self.vocabulary is None or self.vocabulary.isidentifier(),
            "vocabulary",
            "be a letter followed by letters, digits or _",
            self.vocabulary,
        )

    @property
    def vocabulary_name(self) -> str:
        """Name of the vocabulary in use: `vocabulary` or its default."""
        return self.vocabulary or self.attribute

    @property
    def has_weights(self) -> bool:
        """Whether the values have weights (`weights_name`): always, for a domain."""
        return True


# Features that list values of a vocabulary; each becomes a field by pooling.
ListFeature = ProfileFeature | Domain


@bounds.checked
@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Limits of one vocabulary.

    Attributes:
      max_size: Number of values kept, the most frequent ones; null: all.
      min_frequency: Occurrences in training examples below which a value is out of vocabulary.
      num_oov_buckets: Number of hash buckets for values out of vocabulary (never for labels).
    """

    max_size: bounds.PositiveIntegerOrNull = None
    min_frequency: bounds.PositiveInteger = 1
    num_oov_buckets: bounds.AtLeastOne = 1


@bounds.checked
@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """All features of a model.

    Attributes:
      history_window_days: Longest window of every domain, in days; null: unlimited.
      profile: The profile features.
      domains: The behaviour domains.
      vocabularies: Limits by vocabulary name; a vocabulary not named has the defaults of
        `Vocabulary`.
    """

    history_window_days: bounds.PositiveOrNull = None
    profile: tuple[ProfileFeature, ...] = ()
    domains: tuple[Domain, ...] = ()
    vocabularies: dict[str, Vocabulary] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
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
        require(not repeated, "domains", "have different names", ", ".join(repeated))
        known = {domain.vocabulary_name for domain in self.domains} | {TAG_VOCABULARY}
        unknown = sorted(set(self.vocabularies) - known)
        require(
            not unknown,
            "vocabularies",
            f"name vocabularies in use ({', '.join(sorted(known))})",
            ", ".join(unknown),
        )
        # The transform names its files after vocabularies.
        taken = {profile_vocabulary_name(feature.name) for feature in self.profile}
        clashing = sorted(known & taken)
        require(not clashing, "vocabulary", "not be a reserved name", ", ".join(clashing))
        for domain in self.domains:
            if domain.vocabulary_name == TAG_VOCABULARY:
                require(
                    domain.attribute == "tags",
                    "vocabulary",
                    f"not be `{TAG_VOCABULARY}` for a domain that does not list tags",
                    domain.name,
                )

    def vocabulary(self, name: str) -> Vocabulary:
        """Returns the limits of the vocabulary `name`."""
        return self.vocabularies.get(name, Vocabulary())

    @property
    def singles(self) -> tuple[ProfileFeature, ...]:
        """The profile features with one value, text or number."""
        return tuple(feature for feature in self.profile if not feature.is_list)

    @property
    def lists(self) -> tuple[ListFeature, ...]:
        """All features that list values: the profile features of type `list`, then the domains."""
        return (*(feature for feature in self.profile if feature.is_list), *self.domains)

    @property
    def raw_names(self) -> tuple[str, ...]:
        """Names of all raw features: profile features, then each domain followed by its weights."""
        names = [feature.name for feature in self.profile]
        for domain in self.domains:
            names += [domain.name, weights_name(domain.name)]
        return tuple(names)


def profile_vocabulary_name(feature: str) -> str:
    """Returns the name of the vocabulary that a profile feature has for itself."""
    return f"profile_{feature}"


def _check_name(name: str) -> None:
    require(name.isidentifier(), "name", "be a letter followed by letters, digits or _", name)
    require(name not in RESERVED_NAMES, "name", "not be a name reserved for labels", name)
