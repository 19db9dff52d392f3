"""Values of behaviour domains from events, in the graph: what `trainer.contract.history` computes.

A servable holds this computation, so that a caller in any language sends events and no features.
`trainer.contract.history` stays the definition; a property test holds the two equal.

All domains and users are computed together. A *stretch* is a domain of a user, numbered
`domain * batch + user`; an *entry* is one value (a tag, a category, an item id) of one event.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from serving.servable.event_inputs import Events
from serving.servable.event_text import normalized_tags, one_line
from serving.servable.text_order import SortedText, sort_text, stable_order
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.history import (
    MAX_WEIGHT,
    MIN_WEIGHT,
    NEGLIGIBLE_WEIGHT,
    SECONDS_PER_DAY,
)
from trainer.contract.tag_normalization import TagNormalization

_ATTRIBUTES = ("tags", "category", "item_id")
_ALL = 2**31 - 1  # more events than a request holds
MAX_VALUES = 2**21  # as many strings as the local server takes in a request


class DomainValues(NamedTuple):
    """The values of one domain.

    Attributes:
      values: string [batch, n], heaviest first, ties in order of the strings, padded with "".
      weights: float32 [batch, n], padded with 0.
    """

    values: tf.Tensor
    weights: tf.Tensor


class _Entries(NamedTuple):
    """Values of the events that count.

    Attributes:
      event: int64 [n], position of the event in canonical order, ascending in each attribute.
      code: int64 [n], the value, by its order among all texts.
      attribute: int64 [n], position in `_ATTRIBUTES`.
    """

    event: tf.Tensor
    code: tf.Tensor
    attribute: tf.Tensor


class EventHistory:
    """Computes the values of a feature specification's domains."""

    def __init__(self, spec: FeatureSpec, normalization: TagNormalization):
        """Reads what is constant.

        Args:
          spec: The feature specification, with at least one domain.
          normalization: Normalisation of the version's tags.
        """
        self._normalization = normalization
        self._domains = spec.domains
        self._windows = [_window_seconds(domain, spec) for domain in spec.domains]
        attributes = {domain.attribute for domain in spec.domains}
        self._attributes = [name for name in _ATTRIBUTES if name in attributes]

    def values(self, events: Events) -> Sequence[DomainValues]:
        """Computes the values of each domain for each user.

        Args:
          events: The events of all users.

        Returns:
          The values of the domains, in the order of the specification.
        """
        tags = normalized_tags(events.tags, self._normalization)
        has_text = tf.where(tags != "")[:, 0]
        tags, tagged = tf.gather(tags, has_text), tf.gather(events.tagged, has_text)
        categories = [] if events.category is None else [one_line(events.category)]
        texts = sort_text(tf.concat([tags, one_line(events.item_id), *categories], 0))
        num_events = tf.size(events.owner)
        sizes = [tf.size(tags), *[num_events] * (1 + len(categories))]
        tag_codes, item_codes, *category_codes = tf.split(texts.codes, sizes)
        counted = _counted(events, item_codes, texts, tagged)
        place = _places(counted, num_events)
        columns = {
            "tags": (tf.gather(place, tagged), tag_codes),
            "item_id": (place, item_codes),
        }
        if category_codes:
            columns["category"] = (place, category_codes[0])
        kept = events._replace(
            owner=tf.gather(events.owner, counted),
            seconds=tf.gather(events.seconds, counted),
            is_clicked=tf.gather(events.is_clicked, counted),
            weight=None if events.weight is None else tf.gather(events.weight, counted),
        )
        return self._sums(kept, self._entries(columns, texts), texts)

    def _entries(
        self, columns: dict[str, tuple[tf.Tensor, tf.Tensor]], texts: SortedText
    ) -> _Entries:
        num_codes = tf.size(texts.values, tf.int64)
        found: list[_Entries] = []
        for name in self._attributes:
            place, codes = columns[name]
            is_value = (place >= 0) & (tf.gather(texts.values, codes) != "")
            # A value counts once in an event; the keys are distinct and in order of the events.
            keys = tf.boolean_mask(place * num_codes + codes, is_value)
            keys = tf.sort(tf.unique(keys).y)
            attribute = tf.fill([tf.size(keys)], tf.constant(_ATTRIBUTES.index(name), tf.int64))
            found.append(_Entries(keys // num_codes, keys % num_codes, attribute))
        return _Entries(*(tf.concat(parts, 0) for parts in zip(*found, strict=True)))

    def _sums(self, events: Events, entries: _Entries, texts: SortedText) -> Sequence[DomainValues]:
        num_users = tf.size(events.now, tf.int64)
        num_stretches = num_users * len(self._domains)
        num_codes = tf.size(texts.values, tf.int64)
        is_seen = tf.gather(self._counts(events), entries.event, axis=1)
        attributes = [_ATTRIBUTES.index(domain.attribute) for domain in self._domains]
        is_seen &= tf.constant(attributes, tf.int64)[:, tf.newaxis] == entries.attribute
        domain, entry = tf.unstack(tf.where(is_seen), num=2, axis=1)
        event = tf.gather(entries.event, entry)
        stretch = domain * num_users + tf.gather(events.owner, event)
        # By value, each value's events in their order, as the sums of the examples are made.
        keys = stretch * num_codes + tf.gather(entries.code, entry)
        order = stable_order(keys)
        keys = tf.gather(keys, order)
        weights = self._weights(events, tf.gather(domain, order), tf.gather(event, order))
        distinct, group = tf.unique(keys)
        sums = tf.math.unsorted_segment_sum(weights, group, tf.size(distinct))
        sums = tf.where(sums < NEGLIGIBLE_WEIGHT, tf.constant(0.0, tf.float64), sums)
        sums = tf.cast(tf.minimum(sums, MAX_WEIGHT), tf.float32)
        order = tf.argsort(sums, direction="DESCENDING", stable=True)
        order = tf.gather(order, stable_order(tf.gather(distinct // num_codes, order)))
        distinct = tf.gather(distinct, order)
        sums = tf.maximum(tf.gather(sums, order), MIN_WEIGHT)
        stretch, codes = distinct // num_codes, distinct % num_codes
        lengths = tf.math.unsorted_segment_sum(tf.ones_like(stretch), stretch, num_stretches)
        return self._padded(tf.gather(texts.values, codes), sums, lengths)

    def _counts(self, events: Events) -> tf.Tensor:
        """Returns which events count for each domain, bool [num_domains, num_events]."""
        is_clicked = tf.constant([domain.events == "clicked" for domain in self._domains])
        counts = events.is_clicked == is_clicked[:, tf.newaxis]
        now = tf.gather(events.now, events.owner)
        if any(math.isfinite(window) for window in self._windows):
            windows = tf.constant(self._windows, tf.float64)[:, tf.newaxis]
            counts &= tf.cast(events.seconds, tf.float64) >= now - windows
        limits = [domain.last_events for domain in self._domains]
        if any(limit is not None for limit in limits):
            until = tf.cumsum(tf.cast(counts, tf.int32), axis=1)
            of_user = tf.searchsorted(events.owner, events.owner, side="right") - 1
            later = tf.gather(until, of_user, axis=1) - until
            last = tf.constant([min(limit or _ALL, _ALL) for limit in limits], tf.int32)
            counts &= later < last[:, tf.newaxis]
        return counts

    def _weights(self, events: Events, domain: tf.Tensor, event: tf.Tensor) -> tf.Tensor:
        """Returns the weights of entries, float64 [n]."""
        is_recency = [domain.weighting == "recency" for domain in self._domains]
        if not any(is_recency):
            return tf.ones(tf.shape(event), tf.float64)
        half_lives = tf.gather(
            tf.constant([each.half_life_days for each in self._domains], tf.float64), domain
        )
        seconds = tf.cast(tf.gather(events.seconds, event), tf.float64)
        now = tf.gather(events.now, tf.gather(events.owner, event))
        age_days = (now - seconds) / SECONDS_PER_DAY
        decayed = tf.pow(tf.constant(2.0, tf.float64), -age_days / half_lives)
        if events.weight is not None:
            decayed *= tf.cast(tf.gather(events.weight, event), tf.float64)
        return tf.where(tf.gather(tf.constant(is_recency), domain), decayed, 1.0)

    def _padded(
        self, values: tf.Tensor, sums: tf.Tensor, lengths: tf.Tensor
    ) -> Sequence[DomainValues]:
        starts = tf.cumsum(lengths, exclusive=True)
        limits = tf.constant([domain.max_values for domain in self._domains], tf.int64)
        shape = [len(self._domains), -1]
        starts = tf.reshape(starts, shape)
        lengths = tf.minimum(tf.reshape(lengths, shape), limits[:, tf.newaxis])
        widths = tf.reduce_max(tf.pad(lengths, [[0, 0], [0, 1]]), axis=1)
        with tf.control_dependencies([_check_size(lengths, widths)]):
            columns = tf.range(tf.reduce_max(widths))
        is_value = columns < lengths[:, :, tf.newaxis]
        last = tf.size(values, tf.int64)
        places = tf.where(is_value, starts[:, :, tf.newaxis] + columns, last)
        values = tf.gather(tf.concat([values, [""]], 0), places)
        sums = tf.gather(tf.concat([sums, [0.0]], 0), places)
        return [
            DomainValues(values[i, :, : widths[i]], sums[i, :, : widths[i]])
            for i in range(len(self._domains))
        ]


def _check_size(lengths: tf.Tensor, widths: tf.Tensor) -> tf.Operation:
    """Refuses users whose features would take far more memory than their events do.

    Every user is padded to the widest one, so few events make many values of many users.
    """
    num_values = tf.size(lengths, tf.int64) * tf.reduce_max(widths)
    demand = f"Features must not have more than {MAX_VALUES} values, padding included. Received:"
    return tf.raw_ops.Assert(condition=num_values <= MAX_VALUES, data=[demand, num_values])


def _counted(
    events: Events, item_codes: tf.Tensor, texts: SortedText, tagged: tf.Tensor
) -> tf.Tensor:
    """Returns the events that count, in canonical order, int64 [n].

    Events without tags or at or after `now` do not count, and of equal ones the last one alone.
    """
    num_events = tf.size(events.owner)
    num_tags = tf.math.unsorted_segment_sum(tf.ones_like(tagged), tagged, num_events)
    now = tf.gather(events.now, events.owner)
    is_before = tf.cast(events.seconds, tf.float64) < now
    found = tf.where((num_tags > 0) & is_before)[:, 0]
    keys = [item_codes * 2 + tf.cast(events.is_clicked, tf.int64), events.seconds, events.owner]
    if events.weight is not None:
        keys.insert(0, events.weight)
    for key in keys:
        found = tf.gather(found, stable_order(tf.gather(key, found)))
    is_last = tf.gather(tf.gather(texts.values, item_codes), found) == ""
    for key in keys:
        key = tf.gather(key, found)
        is_last |= tf.concat([key[1:] != key[:-1], tf.fill([tf.minimum(1, tf.size(key))], True)], 0)
    return tf.boolean_mask(found, is_last)


def _places(counted: tf.Tensor, num_events: tf.Tensor) -> tf.Tensor:
    """Returns the position of each event among the counted ones, int64 [num_events]; -1: none."""
    positions = tf.range(1, tf.size(counted, tf.int64) + 1)
    shape = tf.cast(num_events, tf.int64)[tf.newaxis]
    return tf.scatter_nd(counted[:, tf.newaxis], positions, shape) - 1


def _window_seconds(domain: Domain, spec: FeatureSpec) -> float:
    days = [day for day in (domain.window_days, spec.history_window_days) if day is not None]
    return min(days) * SECONDS_PER_DAY if days else math.inf
