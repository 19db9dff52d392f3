"""Beam combiner that keeps a user's latest events, bounded in number.

Chunks are merged before the shuffle where the engine can (combiner lifting), and no accumulator
holds more than about twice the cap: a user with a million events costs no more than one at the cap.
"""

from collections.abc import Iterable

import apache_beam as beam
import numpy as np

from tfx_pipeline.event_chunks import EVENT_DTYPE, UserChunk, canonical
from trainer.config_loader import require

# Chunks, their size in bytes, duplicates and dropped events so far.
Accumulator = tuple[list[bytes], int, int, int]


class LatestEvents(beam.CombineFn):
    """Merges a user's chunks into the latest `max_events`, whatever the order in which they come.

    Keeping the n greatest distinct elements is associative and commutative, so the result does not
    depend on how an engine groups the chunks.
    """

    def __init__(self, max_events: int):
        """Initializes the combiner.

        Args:
          max_events: Events kept of a user.

        Raises:
          ValueError: `max_events` is not positive.
        """
        require(max_events >= 1, "max_events", "be a positive integer", max_events)
        self.max_events = max_events

    def create_accumulator(self) -> Accumulator:
        """No chunks, no duplicates, nothing dropped."""
        return [], 0, 0, 0

    def add_input(self, accumulator: Accumulator, chunk: bytes) -> Accumulator:
        """Adds one chunk; compacts when twice the cap is exceeded."""
        chunks, size, duplicates, dropped = accumulator
        chunks.append(chunk)
        return self._bounded(chunks, size + len(chunk), duplicates, dropped)

    def merge_accumulators(self, accumulators: Iterable[Accumulator]) -> Accumulator:
        """Merges accumulators one at a time, so that their sum is never held."""
        merged = self.create_accumulator()
        for chunks, size, duplicates, dropped in accumulators:
            merged[0].extend(chunks)
            merged = self._bounded(
                merged[0], merged[1] + size, merged[2] + duplicates, merged[3] + dropped
            )
        return merged

    def compact(self, accumulator: Accumulator) -> Accumulator:
        """One sorted chunk in place of many, before an accumulator travels."""
        return self._compact(*accumulator)

    def extract_output(self, accumulator: Accumulator) -> UserChunk:
        """The user's events."""
        chunks, _, duplicates, dropped = self._compact(*accumulator)
        return UserChunk(b"".join(chunks), duplicates, dropped)

    def _bounded(
        self, chunks: list[bytes], size: int, duplicates: int, dropped: int
    ) -> Accumulator:
        if size > 2 * self.max_events * EVENT_DTYPE.itemsize:
            return self._compact(chunks, size, duplicates, dropped)
        return chunks, size, duplicates, dropped

    def _compact(
        self, chunks: list[bytes], size: int, duplicates: int, dropped: int
    ) -> Accumulator:
        events = np.frombuffer(b"".join(chunks), EVENT_DTYPE)
        distinct = canonical(events)
        kept = distinct[-self.max_events :]
        duplicates += len(events) - len(distinct)
        return [kept.tobytes()], kept.nbytes, duplicates, dropped + len(distinct) - len(kept)
