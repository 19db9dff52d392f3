"""Ids that differ in form alone: `123.0` and `123`, `007` and `7`, blanks, quotes, case.

One system writes an id as a number and the next as a text, and two tables no longer join: nothing
is wrong with any row, and every user is without a profile. Such ids are never joined here, as a
form may mean something; they are counted, and named with an example, so that a person can decide.

Users are spread over shards by their ids, so that the two forms of one are seldom in one place. A
shard therefore gives a sample by the hash of the form, the same forms in every shard and table: a
sum of samples is a sample, of a bounded size, and exact while there are no more ids than its size.
No Beam here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.tables.user_hash import user_hashes
from trainer.contract.arrow import pa

# Forms sampled, in all; a shard gives its share twice over and some.
SAMPLE_SIZE = 16_384
_LEAST_OF_SHARD = 512
_ALL = 2**64
# What is written around an id, and means nothing: quotes, and marks of no width.
_AROUND = "\"'`\u2018\u2019\u201c\u201d\ufeff\u200b"


class FormMatches(NamedTuple):
    """Ids of the log that a table has in another form.

    Attributes:
      num: How many; estimated where there were more ids than a sample holds.
      in_log: One of them.
      in_table: The same one as the table writes it.
    """

    num: int
    in_log: str
    in_table: str


class IdSample(NamedTuple):
    """Ids whose form has a hash below a bound.

    Attributes:
      ids: The ids, object [n], in order of hash and id.
      hashes: Hashes of their forms, uint64 [n], ascending.
      bound: Every id whose form has a smaller hash is in; 2^64: all are.
    """

    ids: np.ndarray
    hashes: np.ndarray
    bound: int


def id_form(ids: pa.Array) -> pa.Array:
    """What is left of ids without their form.

    Args:
      ids: string [n].

    Returns:
      string [n]: without blanks and quotes around, in lower case and one Unicode form; of a decimal
      number that is whole its digits, without leading zeros and without `.0`.
    """
    texts = pc.utf8_trim_whitespace(pc.utf8_normalize(ids, form="NFKD"))
    texts = pc.utf8_trim_whitespace(pc.utf8_trim(texts, characters=_AROUND))
    texts = pc.utf8_lower(texts)
    return pc.replace_substring_regex(texts, r"^\+?(-?)0*([0-9]+)(?:\.0*)?$", r"\1\2")


def size_of_shard(num_shards: int) -> int:
    """Ids that one of so many shards adds to a sample of `SAMPLE_SIZE`."""
    return max(2 * SAMPLE_SIZE // num_shards, _LEAST_OF_SHARD)


def sample_ids(ids: pa.Array, size: int = SAMPLE_SIZE) -> IdSample:
    """The ids whose forms have the smallest hashes.

    Args:
      ids: string [n].
      size: Forms kept.

    Returns:
      The sample.
    """
    hashes = user_hashes(id_form(ids).to_pylist(), "form")
    return _bounded(np.array(ids.to_pylist(), object), hashes, _ALL, size)


def merge_samples(parts: Iterable[IdSample], size: int = SAMPLE_SIZE) -> IdSample:
    """The sample of all parts together."""
    parts = list(parts)
    ids = np.concatenate([np.zeros(0, object), *(part.ids for part in parts)])
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
    return _bounded(ids, hashes, min((part.bound for part in parts), default=_ALL), size)


def match_samples(log: IdSample, table: IdSample) -> FormMatches | None:
    """Ids of the log that the table has in another form.

    Args:
      log: The sample of ids that the table does not have.
      table: The sample of all ids of the table.

    Returns:
      The matches; None: there is none.
    """
    bound = min(log.bound, table.bound)
    log, table = _below(log, bound), _below(table, bound)
    places = np.searchsorted(table.hashes, log.hashes)
    places[places == len(table.hashes)] = 0
    is_found = table.hashes[places] == log.hashes if len(table.hashes) else np.zeros(0, bool)
    num = int(np.count_nonzero(is_found))
    if not num:
        return None
    first = int(np.flatnonzero(is_found)[0])
    return FormMatches(round(num * _ALL / bound), log.ids[first], table.ids[places[first]])


class KnownIds:
    """All ids of a table that is at hand as a whole."""

    def __init__(self, ids: pa.Array):
        """Brings the ids into their form, once."""
        self._ids = ids
        self._forms = id_form(ids)

    def match(self, log: pa.Array) -> FormMatches | None:
        """Finds ids of the log that the table has in another form.

        Args:
          log: Ids that the table does not have, one a row.

        Returns:
          How many rows, with the first id in order of the texts; None: none.
        """
        counts = log.value_counts()
        ids = counts.field("values")
        places = pc.index_in(id_form(ids), value_set=self._forms)
        is_found = places.is_valid()
        ids, places = ids.filter(is_found), places.filter(is_found)
        if not len(ids):
            return None
        first = pc.sort_indices(ids)[0].as_py()
        return FormMatches(
            pc.sum(counts.field("counts").filter(is_found)).as_py(),
            ids[first].as_py(),
            self._ids[places[first].as_py()].as_py(),
        )


def _bounded(ids: np.ndarray, hashes: np.ndarray, bound: int, size: int) -> IdSample:
    if len(hashes) > size:
        bound = min(bound, int(np.partition(hashes, size)[size]))
    if bound < _ALL:
        is_below = hashes < np.uint64(bound)
        ids, hashes = ids[is_below], hashes[is_below]
    order = np.array(sorted(range(len(ids)), key=lambda i: (hashes[i], ids[i])), np.int64)
    return IdSample(ids[order], hashes[order], bound)


def _below(sample: IdSample, bound: int) -> IdSample:
    num = len(sample.hashes)
    if bound < _ALL:
        num = int(np.searchsorted(sample.hashes, np.uint64(bound), side="left"))
    return IdSample(sample.ids[:num], sample.hashes[:num], bound)
