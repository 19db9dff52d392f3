"""Rows of the table of signatures for users' events: the inputs of the signatures that take them.

Events come in two forms. As lists they are padded, one row a user, which suits JSON and batching.
Flat, the events of all users follow one another and row lengths say whose they are, which suits
callers who build tensors. An event without tags does not count, so it serves as padding.
"""

from __future__ import annotations

import dataclasses

from tagtower_client import signatures as s
from tagtower_client.signature_rows import (
    WITH_CATEGORIES,
    WITH_EVENT_WEIGHTS,
    Kind,
    TensorRow,
)

_NOW = TensorRow(
    s.NOW,
    "float64",
    ("batch",),
    "time to answer for, seconds since 1970, UTC; events at or after it do not count",
)
_PROFILE = TensorRow(
    "profile",
    "",
    (),
    "profile features of the users, each as `users` has it",
    Kind.EACH_PROFILE,
)
_TAGS = TensorRow(
    s.EVENT_TAGS,
    "string",
    ("batch", "e", "t"),
    'tags of the item of each event, padded with `""`; an event without tags does not count',
)
# What there is of each event beside the tags.
_OF_EVENTS = (
    TensorRow(
        s.EVENT_ITEM_ID,
        "string",
        ("batch", "e"),
        "id of the item: it orders events of one second, and equal events count once",
    ),
    TensorRow(s.EVENT_CLICKED, "int64", ("batch", "e"), "1: the item was clicked, 0: skipped"),
    TensorRow(
        s.EVENT_TIME,
        "int64",
        ("batch", "e"),
        "time of the event, seconds since 1970, UTC, or ms, us or ns, told by its size",
    ),
    TensorRow(
        s.EVENT_CATEGORY,
        "string",
        ("batch", "e"),
        'category of the item; `""`: unknown',
        only=WITH_CATEGORIES,
    ),
    TensorRow(
        s.EVENT_WEIGHT,
        "float32",
        ("batch", "e"),
        "weight of the event; 1 where the log has none",
        only=WITH_EVENT_WEIGHTS,
    ),
)

EVENT_LISTS = (_TAGS, *_OF_EVENTS, _NOW, _PROFILE)
FLAT_EVENTS = (
    TensorRow(s.NUM_EVENTS, "int64", ("batch",), "number of events of each user"),
    TensorRow(s.EVENT_NUM_TAGS, "int64", ("events",), "number of tags of each event"),
    dataclasses.replace(_TAGS, shape=("values",), meaning="tags of the items, event by event"),
    *(dataclasses.replace(row, shape=("events",)) for row in _OF_EVENTS),
    _NOW,
    _PROFILE,
)
