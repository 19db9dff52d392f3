"""Joins requests that come at a time into batches, and computes the batches.

There is no thread for batches. The thread of the request that opens a batch waits for others to
join, computes the batch and wakes them: a caller who is alone pays for no hand-over. As in
TensorFlow Serving a batch is computed when it is full or its time is over, and a place among
`num_batch_threads` is free; until then further requests join it.
"""

import dataclasses
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence

import grpc
import numpy as np

from serving.model_server.batching.batch import Batch, Part
from serving.model_server.batching.join_rules import Form, JoinRule, Rows, wider
from serving.model_server.batching.joined_arrays import check_outputs, join_inputs
from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.session.predict import Run
from serving.model_server.session.servable import Servable
from serving.model_server.session.signature import Signature

_MICROSECONDS = 1e-6


@dataclasses.dataclass(frozen=True)
class _Target:
    """What a request calls, and who asks.

    Attributes:
      servable: Loaded version.
      signature: Signature of the version.
      model_name: Name of the model, for the counts.
      is_awaited: Function that tells whether the caller still waits.
    """

    servable: Servable
    signature: Signature
    model_name: str
    is_awaited: Callable[[], bool]

    def key(self, form: Form) -> tuple[Servable, str, Form]:
        """Returns the key of the queue: version, signature and form of the inputs.

        All outputs are always computed, so that requests for different outputs share a queue.
        """
        return self.servable, self.signature.name, form


class BatchScheduler:
    """The waiting batches of all versions of a server.

    Args:
      parameters: How requests are joined.
      metrics: Counts of the server.
    """

    def __init__(self, parameters: BatchingParameters, metrics: Metrics):
        self._parameters = parameters
        self._metrics = metrics.batching(parameters.thread_pool_name)
        self._places = threading.Semaphore(parameters.num_batch_threads)
        self._lock = threading.Lock()
        # A queue exists only as long as a batch waits in it.
        self._queues: dict[tuple[Servable, str, Form], deque[Batch]] = {}
        self._is_closed = False
        self._rules: weakref.WeakKeyDictionary[Servable, dict[str, JoinRule]] = (
            weakref.WeakKeyDictionary()
        )

    def runner(self, servable: Servable, model_name: str, is_awaited: Callable[[], bool]) -> Run:
        """Returns the function that computes the outputs of one request.

        Args:
          servable: Loaded version; the request must hold its lease until the function returns.
          model_name: Name of the model, for the counts.
          is_awaited: Function that tells whether the caller still waits; the rows of a caller who
            has gone are not computed.
        """

        def run(signature: Signature, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
            rows = self._rule(servable, signature).rows(feeds)
            if rows is None:
                return servable.run(signature, feeds)
            return self._run(_Target(servable, signature, model_name, is_awaited), feeds, rows)

        return run

    @property
    def num_waiting(self) -> int:
        """Returns the number of rows that wait for the computation of their batch."""
        with self._lock:
            return sum(batch.num_rows for batches in self._queues.values() for batch in batches)

    def close(self) -> None:
        """Makes no batch wait for further requests from now on, as the server is stopping."""
        with self._lock:
            self._is_closed = True
            for batches in self._queues.values():
                for batch in batches:
                    batch.is_full.set()

    def _rule(self, servable: Servable, signature: Signature) -> JoinRule:
        rules = self._rules.get(servable)
        rule = rules.get(signature.name) if rules else None
        if rule is None:
            rule = JoinRule(signature, self._parameters.pad_variable_length_inputs)
            with self._lock:
                self._rules.setdefault(servable, {})[signature.name] = rule
        return rule

    def _run(self, target: _Target, feeds: Sequence[np.ndarray], rows: Rows) -> list[np.ndarray]:
        """Puts a request into batches, computes those that it opens, and waits for the others."""
        if rows.number > self._parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {rows.number} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        self._metrics.observe_request(target.model_name, rows.number)
        parts, opened = self._enqueue(target, feeds, rows)
        # The last one first: only that one takes requests of others.
        for batch in reversed(opened):
            self._lead(target, rows.form, batch)
        for part in parts:
            part.wait()
            if part.is_left_alone:
                with self._places:
                    self._compute(target, [part], is_again=True)
        errors = [part.error for part in parts if part.error is not None]
        if errors:
            raise errors[0]
        if len(parts) == 1:
            return parts[0].values
        pieces = zip(*(part.values for part in parts), strict=True)
        try:
            return [np.concatenate(values) for values in pieces]
        except ValueError as error:  # their widths depend on the values
            raise ServingError(
                grpc.StatusCode.INTERNAL, f"Tensor concat operation failed: {error}"
            ) from error

    def _enqueue(
        self, target: _Target, feeds: Sequence[np.ndarray], rows: Rows
    ) -> tuple[list[Part], list[Batch]]:
        """Adds a request to the last batch of its queue or to new ones.

        Returns:
          The parts of the request, and the batches that it has opened.

        Raises:
          ServingError: UNAVAILABLE if the queue is full.
        """
        parts, opened, start = [], [], 0
        key = target.key(rows.form)
        with self._lock:
            batches = self._queues.get(key, deque())
            # All parts are made before the queue changes: a batch in it always has who computes it.
            for number in self._sizes(batches, rows):
                end = start + number
                piece = feeds if number == rows.number else [array[start:end] for array in feeds]
                parts.append(Part(piece, number, rows.widths, target.is_awaited))
                start = end
            for part in parts:
                if not batches or not batches[-1].can_take(rows, part.num_rows):
                    if batches:
                        batches[-1].is_full.set()
                    batch = Batch(self._parameters.most_rows)
                    if self._is_closed:
                        batch.is_full.set()
                    batches.append(batch)
                    opened.append(batch)
                batches[-1].add(part)
            self._queues[key] = batches
        return parts, opened

    def _sizes(self, batches: Sequence[Batch], rows: Rows) -> list[int]:
        """Returns the sizes of the parts of a request.

        Raises:
          ServingError: UNAVAILABLE if the queue does not take them.
        """
        number, most = rows.number, self._parameters.most_rows
        fits = bool(batches) and batches[-1].can_take(rows, number)
        if not self._parameters.enable_large_batch_splitting:
            most_batches = max(self._parameters.max_enqueued_batches, 1)
            if not fits and len(batches) >= most_batches:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {len(batches)} batches enqueued and max_enqueued_batches is "
                    f"{most_batches}",
                )
            return [number]
        room = batches[-1].room if batches and batches[-1].can_take(rows, 1) else 0
        most_batches = self._parameters.max_enqueued_batches
        capacity = (most_batches - len(batches)) * most + room
        if number > capacity:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; task size is "
                f"{number} but scheduling capacity is only {capacity} (num_enqueued_batches="
                f"{len(batches)}, max_enqueued_batches={most_batches}, open_batch_size="
                f"{batches[-1].num_rows if batches else 0}, max_execution_batch_size={most})",
            )
        if fits:
            return [number]
        first = [room] if room else []
        whole, rest = divmod(number - room, most)
        return [*first, *[most] * whole, *([rest] if rest else [])]

    def _lead(self, target: _Target, form: Form, batch: Batch) -> None:
        """Waits until a batch may be computed, and computes it."""
        timeout = self._parameters.batch_timeout_micros * _MICROSECONDS
        rest = batch.start + timeout - time.perf_counter()
        if rest > 0:
            batch.is_full.wait(rest)
        with self._places:
            key = target.key(form)
            with self._lock:
                batches = self._queues[key]
                batches.remove(batch)
                if not batches:
                    del self._queues[key]
            self._compute(target, batch.parts)

    def _compute(self, target: _Target, parts: Sequence[Part], is_again: bool = False) -> None:
        """Computes the parts of a batch together, and wakes their threads."""
        try:
            now = time.perf_counter()
            awaited = []
            for part in parts:
                if not is_again:
                    self._metrics.observe_wait(target.model_name, now - part.start)
                if part.is_awaited():
                    awaited.append(part)
                else:
                    part.error = ServingError(grpc.StatusCode.CANCELLED, "The caller has gone.")
            if awaited:
                self._compute_awaited(target, awaited)
        except Exception as error:
            _fail(parts, error)
        finally:
            for part in parts:
                part.finish()

    def _compute_awaited(self, target: _Target, parts: Sequence[Part]) -> None:
        num_rows = sum(part.num_rows for part in parts)
        num_filled = self._parameters.filled_up(num_rows)
        widths = parts[0].widths
        for part in parts[1:]:
            widths = wider(widths, part.widths)
        feeds = join_inputs([part.feeds for part in parts], widths, num_filled - num_rows)
        is_filled_up = bool(self._parameters.allowed_batch_sizes)
        added = num_filled - num_rows if is_filled_up else None
        self._metrics.observe_batch(target.model_name, num_filled, added)
        try:
            values = target.servable.run(target.signature, feeds)
        except Exception:
            if len(parts) == 1:
                raise
            # One of the requests is at fault, and only it shall fail.
            for part in parts:
                part.is_left_alone = True
            return
        check_outputs(values, num_filled)
        start = 0
        for part in parts:
            end = start + part.num_rows
            part.values = [value[start:end] for value in values]
            start = end


def _fail(parts: Sequence[Part], error: Exception) -> None:
    """Gives all parts an error; each its own, as a raised one holds the request in its frames."""
    for part in parts:
        if part.error is None:
            part.error = _without_frames(error)


def _without_frames(error: Exception) -> Exception:
    return ServingError(error.code, error.message) if isinstance(error, ServingError) else error
