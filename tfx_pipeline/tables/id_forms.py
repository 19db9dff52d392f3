"""Ids that differ only in form: `123.0` and `123`, `007` and `7`, blanks, quotes, case.

One system writes an id as a number and the next as text, and two tables no longer join: no row is
faulty, and yet no user has profile features. Such ids are never joined here, as the form may have a
meaning; they are counted and reported with an example, so that a person can decide.

Users are distributed over shards by their ids, so that the two forms of one id are seldom in one
shard. A shard therefore yields a sample by the hash of the form, the same forms in every shard and
table: a sum of samples is a sample of bounded size, and exact while there are no more ids than its
size. No Beam here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from tfx_pipeline.tables.user_hash import user_hashes
from trainer.contract.arrow import pa

# Number of forms in the merged sample; a shard contributes more than twice its share.
SAMPLE_SIZE = 16_384
_LEAST_OF_SHARD = 512
_ALL = 2**64
# Characters around an id without meaning: quotes, and marks of no width.
_AROUND = "\"'`\u2018\u2019\u201c\u201d\ufeff\u200b"


class FormMatches(NamedTuple):
    """Ids of the log that a table has in another form, as a number and an example.

    Attributes:
      num: Number of the ids or rows; estimated where there were more ids than a sample holds.
      in_log: Example of an id, as in the log.
      in_table: Same id, as in the table.
    """

    num: int
    in_log: str
    in_table: str


class IdSample(NamedTuple):
    """A sample of ids: those whose form has a hash below a bound.

    Attributes:
      ids: Ids, object [n], in order of hash and id.
      hashes: Hashes of their forms, uint64 [n], ascending.
      bound: Bound below which the sample has every id by the hash of its form; 2^64: it has all
        ids.
    """

    ids: np.ndarray
    hashes: np.ndarray
    bound: int


def id_form(ids: pa.Array) -> pa.Array:
    """Reduces ids to the form in which ids that differ only in form are equal.

    Args:
      ids: string [n], ids.

    Returns:
      string [n], ids without surrounding blanks and quotes, in lower case and one Unicode form; a
      whole decimal number is its digits, without leading zeros and without `.0`.
    """
    texts = pc.utf8_trim_whitespace(pc.utf8_normalize(ids, form="NFKD"))
    texts = pc.utf8_trim_whitespace(pc.utf8_trim(texts, characters=_AROUND))
    texts = pc.utf8_lower(texts)
    return pc.replace_substring_regex(texts, r"^\+?(-?)0*([0-9]+)(?:\.0*)?$", r"\1\2")


def size_of_shard(num_shards: int) -> int:
    """Returns the number of ids that a shard contributes to a sample of `SAMPLE_SIZE`."""
    return max(2 * SAMPLE_SIZE // num_shards, _LEAST_OF_SHARD)


def sample_ids(ids: pa.Array, size: int = SAMPLE_SIZE) -> IdSample:
    """Samples the ids whose forms have the smallest hashes.

    Args:
      ids: string [n], ids.
      size: Number of forms that are kept.

    Returns:
      The sample.
    """
    hashes = user_hashes(id_form(ids).to_pylist(), "form")
    return _bounded(np.array(ids.to_pylist(), object), hashes, _ALL, size)


def merge_samples(parts: Iterable[IdSample], size: int = SAMPLE_SIZE) -> IdSample:
    """Merges the samples of several parts into one sample."""
    parts = list(parts)
    ids = np.concatenate([np.zeros(0, object), *(part.ids for part in parts)])
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
    return _bounded(ids, hashes, min((part.bound for part in parts), default=_ALL), size)


def match_samples(log: IdSample, table: IdSample) -> FormMatches | None:
    """Finds ids of the log that the table has in another form.

    Args:
      log: Sample of the ids in the log that the table does not have.
      table: Sample of all ids of the table.

    Returns:
      The matches; None: there are none.
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
    """Ids of a whole table with their forms, for matching ids of the log."""

    def __init__(self, ids: pa.Array):
        """Initializes with the ids and computes their forms once."""
        self._ids = ids
        self._forms = id_form(ids)

    def match(self, log: pa.Array) -> FormMatches | None:
        """Finds rows of the log whose id the table has in another form.

        Args:
          log: Ids that the table does not have, one per row.

        Returns:
          The number of rows, with the first id in text order; None: there are none.
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
