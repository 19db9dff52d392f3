"""The examples made from users' events: features, labels, and columns for evaluation.

An example is a *snapshot*: a user's features at one time, with all later events as labels. One
label per example would run the user tower once for every later tag (some 20 to 500 times a user
here) and repeat the same history in every example; a snapshot runs it once. The module `moments`
selects the times. Each user also has a snapshot in the split `now`, after all events.

Snapshots are computed for a block of users at once, column by column: in numpy, without Beam and
without a loop over users.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.columns import Column, NumberColumn, TextColumn, Texts
from tfx_pipeline.examples.moments import (
    TRAIN,
    LabelledMoments,
    UserGenerators,
    labelled_moments,
    num_training_events,
)
from tfx_pipeline.examples.time_split import TimeSplit
from tfx_pipeline.examples.user_block import UserBlock
from trainer.contract import features as f
from trainer.contract.arrow import pa
from trainer.contract.history import HistoryValues, Moments
from trainer.contract.list_column import concatenated_ranges, offsets_of
from trainer.contract.value_sums import ValueSums, heaviest


@dataclasses.dataclass(frozen=True)
class BlockSnapshots:
    """All examples of a block of users, as columns.

    Attributes:
      part: int [m], part of each labelled snapshot as a position in `SPLITS`.
      labelled: Columns of the m labelled snapshots by feature name, in order of users and time.
      now: Columns of the snapshots of the split `now` by feature name, one row per user.
      num_impressions_dropped: int [m], number of impressions beyond the cap in each label period.
      num_training: int64 [num_users], number of a user's first events that are in the training
        part.
    """

    part: np.ndarray
    labelled: dict[str, Column]
    now: dict[str, Column]
    num_impressions_dropped: np.ndarray
    num_training: np.ndarray


class SnapshotMaker:
    """Makes the examples of blocks of users of one catalogue."""

    def __init__(
        self,
        vocabularies: Mapping[str, Texts],
        spec: f.FeatureSpec,
        config: ExamplesConfig,
        now: int,
        time_split: TimeSplit | None,
    ):
        """Initializes with the settings that all users share.

        Args:
          vocabularies: Values of each attribute of the items, by the attribute's name.
          spec: Feature specification.
          config: Settings of snapshot times, splits and limits.
          now: Time in seconds, UTC, after every event of the log.
          time_split: Start times of validation and test in `temporal`; None: the protocol is
            `user_holdout`.
        """
        self._texts = vocabularies
        self._spec = spec
        self._config = config
        self._now = now
        self._time_split = time_split

    def snapshots(self, users: UserBlock) -> BlockSnapshots:
        """Returns the examples of some users."""
        config = self._config
        generators = UserGenerators(users.user_ids.to_pylist(), config.seed)
        num_training = num_training_events(users, config, self._time_split)
        labelled = labelled_moments(users, config, self._time_split, num_training, generators)
        history = HistoryValues(users.events)

        # Features are computed for all times at once, then cut into labelled snapshots and those of
        # `now`.
        num_labelled, everyone = len(labelled), np.arange(len(users))
        user = np.concatenate([labelled.user, everyone])
        moments = Moments(
            first=users.offsets[user],
            end=np.concatenate([labelled.cut, users.offsets[1:]]),
            at=np.concatenate([labelled.time, np.full(len(users), self._now)]),
        )
        user_ids = Texts(users.user_ids)
        columns: list[dict[str, Column]] = [
            {
                f.USER_ID: TextColumn.single(user_ids, user[rows]),
                f.SNAPSHOT_TIME: NumberColumn.single(moments.at[rows]),
            }
            for rows in (slice(num_labelled), slice(num_labelled, None))
        ]
        for feature in self._spec.profile:
            values = users.profile[feature.name]
            of_sides = _profile_columns(feature, values, (user[:num_labelled], everyone))
            for side, column in zip(columns, of_sides, strict=True):
                side[feature.name] = column
        for domain in self._spec.domains:
            found = history.domain_values(moments, domain, self._spec.history_window_days)
            for side, part in zip(columns, _cut(found, num_labelled), strict=True):
                side[domain.name] = self._text_column(domain.attribute, part)
                side[f.weights_name(domain.name)] = NumberColumn(part.sums, part.offsets)
        labels, dropped = self._labels(users, labelled, history, generators)
        return BlockSnapshots(labelled.part, columns[0] | labels, columns[1], dropped, num_training)

    def _labels(
        self,
        users: UserBlock,
        moments: LabelledMoments,
        history: HistoryValues,
        generators: UserGenerators,
    ) -> tuple[dict[str, Column], np.ndarray]:
        config = self._config
        is_training = moments.part == TRAIN
        clicked_tags = history.chosen("tags", clicked=True)
        clicked_items = history.chosen("item_id", clicked=True)

        tags = clicked_tags.count(moments.cut, moments.end)
        # Training snapshots keep their most frequent tags, others all tags, in order of the tags.
        label_tags = _alternate(is_training, heaviest(tags, config.max_label_tags), tags)
        # Columns that only evaluation needs are left out of training: their ranges there have no
        # rows.
        cut = np.where(is_training, moments.first, moments.cut)
        past_tags = clicked_tags.count(moments.first, cut)
        past_items = clicked_items.count(moments.first, cut)
        end = np.where(is_training, moments.cut, moments.end)
        later_items = clicked_items.count(moments.cut, end)

        events = users.events
        shown, num_shown = self._impressions(moments, is_training, generators)
        tag_column = events.attributes["tags"]
        num_tags = tag_column.lengths(events.item[shown])
        shown_tags, _ = tag_column.select(events.item[shown])
        shown_offsets = offsets_of(num_shown)
        tag_offsets = offsets_of(num_tags)[shown_offsets]

        num_before = moments.cut - moments.first
        is_known = users.has_older_events[moments.user]
        num_before = np.where(is_known, np.maximum(num_before, 1), num_before)
        labels: dict[str, Column] = {
            f.LABEL_TAGS: self._text_column("tags", label_tags),
            f.LABEL_TAG_WEIGHTS: _floats(label_tags.sums, label_tags.offsets),
            f.IMPRESSION_TAGS: TextColumn(self._texts["tags"], shown_tags, tag_offsets),
            f.IMPRESSION_NUM_TAGS: NumberColumn(num_tags, shown_offsets),
            f.IMPRESSION_CLICKED: _floats(events.clicked[shown], shown_offsets),
            f.IMPRESSION_WEIGHTS: _floats(events.weight[shown], shown_offsets),
            f.HISTORY_TAGS: self._text_column("tags", past_tags),
            f.HISTORY_TAG_COUNTS: _floats(past_tags.sums, past_tags.offsets),
            f.HISTORY_NUM_EVENTS: NumberColumn.single(num_before),
            f.LABEL_ITEMS: self._text_column("item_id", later_items),
            f.HISTORY_ITEMS: self._text_column("item_id", past_items),
        }
        return labels, moments.end - moments.cut - num_shown

    def _impressions(
        self, moments: LabelledMoments, is_training: np.ndarray, generators: UserGenerators
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of the impressions after each time; beyond the cap, a sample.

        Returns:
          int [n], rows, ascending within a time, and int [num_moments], number of rows of each.
        """
        config = self._config
        caps = np.where(is_training, config.max_train_impressions, config.max_eval_impressions)
        num_later = moments.end - moments.cut
        num_shown = np.minimum(num_later, caps)
        _, rows = concatenated_ranges(moments.cut, num_shown)
        offsets = offsets_of(num_shown)
        for moment in np.flatnonzero(num_later > caps).tolist():
            chosen = generators.of(int(moments.user[moment])).choice(
                int(num_later[moment]), size=int(caps[moment]), replace=False
            )
            chosen.sort()
            rows[offsets[moment] : offsets[moment + 1]] = moments.cut[moment] + chosen
        return rows, num_shown

    def _text_column(self, attribute: str, found: ValueSums) -> TextColumn:
        return TextColumn(self._texts[attribute], found.codes, found.offsets)


def _profile_columns(
    feature: f.ProfileFeature, values: pa.Array, parts: Sequence[np.ndarray]
) -> Sequence[Column]:
    """Returns the columns of a profile feature for some users.

    Args:
      feature: Profile feature.
      values: Values of all users, as in `UserBlock.profile`.
      parts: Arrays of users, each int [n], repetition allowed.

    Returns:
      One column of n examples per part; a missing number is NaN.
    """
    if feature.is_number:
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float32)
        return [NumberColumn.single(numbers[users]) for users in parts]
    encoded = (values.flatten() if feature.is_list else values).dictionary_encode()
    texts, codes = Texts(encoded.dictionary), encoded.indices.to_numpy()
    if not feature.is_list:
        return [TextColumn.single(texts, codes[users]) for users in parts]
    lengths = np.asarray(pc.list_value_length(values).fill_null(0)).astype(np.int64)
    starts, lengths = offsets_of(lengths), np.minimum(lengths, feature.effective_max_values)
    columns = []
    for users in parts:
        _, places = concatenated_ranges(starts[users], lengths[users])
        columns.append(TextColumn(texts, codes[places], offsets_of(lengths[users])))
    return columns


def _cut(found: ValueSums, num: int) -> tuple[ValueSums, ValueSums]:
    """Splits into the first `num` ranges and the others."""
    offset = found.offsets[num]
    return (
        ValueSums(found.codes[:offset], found.sums[:offset], found.offsets[: num + 1]),
        ValueSums(found.codes[offset:], found.sums[offset:], found.offsets[num:] - offset),
    )


def _alternate(is_first: np.ndarray, one: ValueSums, other: ValueSums) -> ValueSums:
    """Takes the values of each range from `one` where `is_first`, else from `other`."""
    starts = np.where(is_first, one.offsets[:-1], other.offsets[:-1] + len(one.codes))
    lengths = np.where(is_first, np.diff(one.offsets), np.diff(other.offsets))
    _, rows = concatenated_ranges(starts, lengths)
    return ValueSums(
        np.concatenate([one.codes, other.codes])[rows],
        np.concatenate([one.sums, other.sums])[rows],
        offsets_of(lengths),
    )


def _floats(values: np.ndarray, offsets: np.ndarray) -> NumberColumn:
    return NumberColumn(values.astype(np.float32), offsets)
