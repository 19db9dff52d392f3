"""Requests that share a batch: who shares, who is refused, and who fails.

A batch waits for an hour unless it is full, so that the sizes alone decide when it is computed.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.batching.scheduler import BatchScheduler
from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError
from serving.model_server.session.predict import run_signature
from tests.serving.model_server.toy_examples import example

HOUR = 3_600_000_000
WAIT_S = 60.0


class Callers:
    """Callers of one scheduler, each in a thread."""

    def __init__(self, servable, **parameters):
        parameters = {"batch_timeout_micros": HOUR, "num_batch_threads": 1, **parameters}
        self.metrics = Metrics()
        self.scheduler = BatchScheduler(BatchingParameters(**parameters), self.metrics)
        self._servable = servable
        self._threads = ThreadPoolExecutor(16)

    def call(self, signature, is_awaited=lambda: True, outputs=(), **inputs):
        run = self.scheduler.runner(self._servable, "toy", is_awaited)
        return run_signature(
            self._servable, self._servable.signatures[signature], inputs, outputs, run=run
        )

    def start(self, signature, **arguments):
        """Starts a call whose rows stay in the queue, and returns its future."""
        before = self.scheduler.num_waiting
        future = self._threads.submit(self.call, signature, **arguments)
        end = time.monotonic() + WAIT_S
        while self.scheduler.num_waiting == before:
            assert not future.done(), future.result()
            assert time.monotonic() < end
            time.sleep(0.001)
        return future

    def submit(self, signature, **arguments):
        return self._threads.submit(self.call, signature, **arguments)

    def batches(self):
        """Returns the sum and the number of the rows of computed batches."""
        name = ":tensorflow:serving:batching_session:processed_batch_size"
        lines = dict(line.rsplit(" ", 1) for line in self.metrics.page().splitlines())
        label = '{model_name="toy"}'
        return float(lines[f"{name}_sum{label}"]), int(lines[f"{name}_count{label}"])


def strings(*rows):
    array = np.empty((len(rows), len(rows[0])), object)
    array[:] = rows
    return array


def lists(*rows):
    """Returns inputs of `lists`: tags of equal numbers a row, each with the weight 2."""
    tags = strings(*rows)
    return {"tags": tags, "tags_weights": np.full(tags.shape, 2.0, np.float32)}


def examples(*values):
    array = np.empty(len(values), object)
    array[:] = [value if isinstance(value, bytes) else example(value) for value in values]
    return {"inputs": array}


def error_of(future):
    with pytest.raises(ServingError) as caught:
        future.result(WAIT_S)
    return caught.value.code, caught.value.message


def test_single_callers_share_one_call_and_each_gets_its_own_rows(servable):
    callers = Callers(servable, max_batch_size=3)
    first = callers.start("regress_x", **examples(2.0))
    second = callers.start("regress_x", **examples(4.0))
    third = callers.submit("regress_x", **examples(6.0))

    # 0.5 x + 1
    answers = [future.result(WAIT_S)["outputs"].tolist() for future in (first, second, third)]
    assert answers == [[2.0], [3.0], [4.0]]
    assert callers.batches() == (3.0, 1)


def test_requests_for_different_outputs_share_a_call(servable):
    callers = Callers(servable, max_batch_size=2)
    first = callers.start("lists", outputs=["sum"], **lists([b"a", b"b"]))
    second = callers.submit("lists", outputs=["num_rows"], **lists([b"a", b"b"]))

    assert {name: value.tolist() for name, value in first.result(WAIT_S).items()} == {"sum": [4.0]}
    assert second.result(WAIT_S)["num_rows"].tolist() == [2]


def test_requests_for_different_signatures_do_not_share_a_call(servable):
    callers = Callers(servable, max_batch_size=2)
    first = callers.start("regress_x", **examples(2.0))
    second = callers.start("classify_x", **examples(2.0))
    callers.scheduler.close()

    assert first.result(WAIT_S)["outputs"].tolist() == [2.0]
    assert second.result(WAIT_S)["scores"].tolist() == [[2.0, -1.0]]
    assert callers.batches() == (2.0, 2)


def test_a_closed_scheduler_lets_no_batch_wait(servable):
    callers = Callers(servable, max_batch_size=2)
    waiting = callers.start("regress_x", **examples(2.0))
    callers.scheduler.close()

    assert waiting.result(WAIT_S)["outputs"].tolist() == [2.0]
    assert callers.call("regress_x", **examples(4.0))["outputs"].tolist() == [3.0]
    assert callers.scheduler.num_waiting == 0


def test_without_a_timeout_a_single_request_is_computed_at_once(servable):
    callers = Callers(servable, max_batch_size=8, batch_timeout_micros=0)

    assert callers.call("regress_x", **examples(4.0))["outputs"].tolist() == [3.0]


# Widths.


def test_lists_of_different_widths_are_padded_with_nothing(servable):
    callers = Callers(servable, max_batch_size=2, pad_variable_length_inputs=True)
    narrow = callers.start("lists", **lists([b"a"]))
    wide = callers.submit("lists", **lists([b"a", b"b", b"c"]))

    # TensorFlow Serving pads with the first value: the narrow row would have three tags, sum 6.
    assert {name: value.tolist() for name, value in narrow.result(WAIT_S).items()} == {
        "num_tags": [1.0],
        "sum": [2.0],
        "num_rows": [2],
        "width": [3],
    }
    assert wide.result(WAIT_S)["sum"].tolist() == [6.0]


def test_an_empty_list_is_padded_like_any_other(servable):
    callers = Callers(servable, max_batch_size=2, pad_variable_length_inputs=True)
    none = callers.start("lists", **lists([]))
    some = callers.submit("lists", **lists([b"a"]))

    assert none.result(WAIT_S)["num_tags"].tolist() == [0.0]
    assert some.result(WAIT_S)["num_tags"].tolist() == [1.0]
    assert some.result(WAIT_S)["num_rows"].tolist() == [2]


def test_without_padding_requests_of_different_widths_do_not_meet(servable):
    # TensorFlow Serving joins them and refuses both (FAILED_PRECONDITION).
    callers = Callers(servable, max_batch_size=2)
    narrow = callers.start("lists", **lists([b"a"]))
    wide = callers.start("lists", **lists([b"a", b"b"]))
    second = callers.submit("lists", **lists([b"c"]))

    assert narrow.result(WAIT_S)["num_rows"].tolist() == [2]
    assert second.result(WAIT_S)["num_rows"].tolist() == [2]
    callers.scheduler.close()
    assert wide.result(WAIT_S)["num_rows"].tolist() == [1]


def test_a_signature_whose_answer_is_as_wide_as_its_lists_is_never_padded(servable):
    callers = Callers(servable, max_batch_size=2, pad_variable_length_inputs=True)
    narrow = callers.start("lengths", tags=strings([b"a"]))
    wide = callers.start("lengths", tags=strings([b"a", b"bb"]))
    second = callers.submit("lengths", tags=strings([b"ccc"]))

    assert narrow.result(WAIT_S)["lengths"].tolist() == [[1]]
    assert second.result(WAIT_S)["lengths"].tolist() == [[3]]
    assert second.result(WAIT_S)["num_rows"].tolist() == [2]
    callers.scheduler.close()
    assert wide.result(WAIT_S)["lengths"].tolist() == [[1, 2]]


def test_batches_are_as_small_as_their_padded_lists_demand(servable):
    callers = Callers(servable, max_batch_size=4, pad_variable_length_inputs=True)
    # 2 ** 21 values are allowed: two inputs of 2 ** 19 columns have so many in two rows.
    wide = callers.start("lists", **lists([b"a"] * 2**19))
    joins = callers.start("lists", **lists([b"b"]))
    alone = callers.submit("lists", **lists([b"c"]))

    assert wide.result(WAIT_S)["num_rows"].tolist() == [2]
    assert joins.result(WAIT_S)["width"].tolist() == [2**19]
    callers.scheduler.close()
    assert alone.result(WAIT_S)["width"].tolist() == [1]


# Sizes.


def test_a_batch_is_filled_up_to_an_allowed_size_with_rows_that_nobody_sees(servable):
    callers = Callers(servable, max_batch_size=8, allowed_batch_sizes=(4, 8))
    first = callers.start("lists", **lists([b"a", b"b"], [b"c", b""]))
    second = callers.start("lists", **lists([b"d", b"e"]))
    callers.scheduler.close()

    assert first.result(WAIT_S)["num_tags"].tolist() == [2.0, 1.0]
    assert first.result(WAIT_S)["num_rows"].tolist() == [4, 4]
    assert second.result(WAIT_S)["num_tags"].tolist() == [2.0]
    page = callers.metrics.page()
    padding = ":tensorflow:serving:batching_session:padding_size"
    assert f'{padding}_sum{{model_name="toy",execution_batch_size="4"}} 1.0' in page


def test_a_request_larger_than_a_batch_is_refused(servable):
    callers = Callers(servable, max_batch_size=2)

    assert error_of(callers.submit("regress_x", **examples(1.0, 2.0, 3.0))) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Task size 3 is larger than maximum input batch size 2",
    )


def test_a_full_queue_refuses_what_would_need_a_further_batch(servable):
    callers = Callers(servable, max_batch_size=2, max_enqueued_batches=1)
    first = callers.start("regress_x", **examples(2.0))

    assert error_of(callers.submit("regress_x", **examples(4.0, 6.0))) == (
        grpc.StatusCode.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches "
        "enqueued and max_enqueued_batches is 1",
    )
    # What still fits is taken.
    assert callers.call("regress_x", **examples(8.0))["outputs"].tolist() == [5.0]
    assert first.result(WAIT_S)["outputs"].tolist() == [2.0]


def test_a_large_request_is_split_over_batches_and_fills_the_open_one(servable):
    callers = Callers(
        servable,
        max_batch_size=9,
        enable_large_batch_splitting=True,
        max_execution_batch_size=3,
    )
    first = callers.start("lists", **lists([b"a"]))
    large = callers.submit("lists", **lists(*[[b"x"]] * 5))

    # One row waits; five come: two complete its batch, three are a batch.
    assert large.result(WAIT_S)["num_rows"].tolist() == [3, 3, 3, 3, 3]
    assert large.result(WAIT_S)["sum"].tolist() == [2.0] * 5
    assert first.result(WAIT_S)["num_rows"].tolist() == [3]
    assert callers.batches() == (6.0, 2)


def test_the_batch_that_others_joined_is_computed_before_the_rest_of_a_split_request(servable):
    callers = Callers(
        servable, max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=3
    )
    order = []
    large = callers.submit(
        "lists", is_awaited=lambda: order.append("large") or True, **lists(*[[b"x"]] * 7)
    )
    end = time.monotonic() + WAIT_S
    while callers.scheduler.num_waiting < 7:
        assert time.monotonic() < end
        time.sleep(0.001)
    callers.start("lists", is_awaited=lambda: order.append("other") or True, **lists([b"a"]))
    callers.scheduler.close()

    assert large.result(WAIT_S)["num_rows"].tolist() == [3, 3, 3, 3, 3, 3, 2]
    assert order == ["large", "other", "large", "large"]


def test_a_split_request_that_the_queue_cannot_hold_is_refused_as_a_whole(servable):
    callers = Callers(
        servable,
        max_batch_size=9,
        enable_large_batch_splitting=True,
        max_execution_batch_size=3,
        max_enqueued_batches=2,
    )
    first = callers.start("lists", **lists([b"a"]))

    assert error_of(callers.submit("lists", **lists(*[[b"x"]] * 6))) == (
        grpc.StatusCode.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; task size is 6 but "
        "scheduling capacity is only 5 (num_enqueued_batches=1, max_enqueued_batches=2, "
        "open_batch_size=1, max_execution_batch_size=3)",
    )
    assert callers.scheduler.num_waiting == 1
    callers.scheduler.close()
    assert first.result(WAIT_S)["num_rows"].tolist() == [1]


# Faults.


def test_a_bad_request_does_not_fail_its_neighbours(servable):
    callers = Callers(servable, max_batch_size=3)
    good = callers.start("regress_x", **examples(2.0))
    bad = callers.start("regress_x", **examples(b"garbage"))
    last = callers.submit("regress_x", **examples(4.0))

    assert good.result(WAIT_S)["outputs"].tolist() == [2.0]
    assert last.result(WAIT_S)["outputs"].tolist() == [3.0]
    code, message = error_of(bad)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("Could not parse example input, value: 'garbage'")
    # Computed together, then one by one; each request has waited once.
    assert callers.batches() == (6.0, 4)
    labels = 'model_name="toy",thread_pool_name="model_server_batch_threads"'
    latency = f":tensorflow:serving:batching_session:queuing_latency_count{{{labels}}} 3"
    assert latency in callers.metrics.page()
    assert "padding_size_count" not in callers.metrics.page()


def test_lists_that_do_not_fit_together_are_refused_and_not_padded(servable):
    callers = Callers(servable, max_batch_size=2, pad_variable_length_inputs=True)
    good = callers.start("lists", **lists([b"a", b"b", b"c"]))
    wrong = {"tags": strings([b"a", b"b"]), "tags_weights": np.ones((1, 3), np.float32)}

    code, message = error_of(callers.submit("lists", **wrong))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "[1,2] vs. [1,3]" in message
    callers.scheduler.close()
    assert good.result(WAIT_S)["num_rows"].tolist() == [1]


@pytest.mark.parametrize(
    "tags, weights, message",
    [
        ((2, 1), (1, 1), "Batching Run() input tensors must have equal 0th-dimension size"),
        ((), (1, 1), "Batching Run() input tensors must have at least one dimension"),
    ],
)
def test_inputs_without_a_common_number_of_rows_are_refused(servable, tags, weights, message):
    callers = Callers(servable, max_batch_size=2)
    inputs = {"tags": np.full(tags, b"a", object), "tags_weights": np.ones(weights, np.float32)}

    assert error_of(callers.submit("lists", **inputs)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        message,
    )


def test_a_request_without_rows_is_computed_by_itself(servable):
    callers = Callers(servable, max_batch_size=2)
    inputs = {"tags": np.empty((0, 2), object), "tags_weights": np.empty((0, 2), np.float32)}

    assert callers.call("lists", **inputs)["sum"].tolist() == []


def test_a_signature_with_one_answer_for_all_rows_is_computed_by_itself(servable):
    callers = Callers(servable, max_batch_size=2)

    assert callers.call("total", x=np.array([1.0, 2.0, 4.0], np.float32))["total"].tolist() == [7.0]


def test_answers_that_are_not_one_for_each_row_are_refused(servable):
    callers = Callers(servable, max_batch_size=2)

    assert error_of(callers.submit("distinct", x=np.array([3.0, 3.0], np.float32))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes "
        "of the input tensors",
    )


def test_rows_of_a_caller_who_has_gone_are_not_computed(servable):
    callers = Callers(servable, max_batch_size=2)
    gone = threading.Event()
    leaver = callers.start("lists", is_awaited=lambda: not gone.is_set(), **lists([b"a"]))
    gone.set()
    stayer = callers.submit("lists", **lists([b"b"]))

    assert stayer.result(WAIT_S)["num_rows"].tolist() == [1]
    assert error_of(leaver) == (grpc.StatusCode.CANCELLED, "The caller has gone.")


def test_a_batch_that_nobody_awaits_is_not_computed(servable):
    callers = Callers(servable, max_batch_size=1)

    assert error_of(callers.submit("regress_x", is_awaited=lambda: False, **examples(1.0))) == (
        grpc.StatusCode.CANCELLED,
        "The caller has gone.",
    )
    assert "processed_batch_size_count" not in callers.metrics.page()


def test_counts_have_the_names_of_tensorflow_serving(servable):
    callers = Callers(servable, max_batch_size=3)
    first = callers.start("regress_x", **examples(2.0))
    callers.call("regress_x", **examples(4.0, 6.0))
    first.result(WAIT_S)
    page = callers.metrics.page()

    prefix = ":tensorflow:serving:batching_session:"
    assert f'{prefix}input_batch_size_sum{{model_name="toy"}} 3.0' in page
    assert f'{prefix}input_batch_size_count{{model_name="toy"}} 2' in page
    assert f'{prefix}processed_batch_size_bucket{{model_name="toy",le="4"}} 1' in page
    assert f'{prefix}processed_batch_size_bucket{{model_name="toy",le="2"}} 0' in page
    labels = 'model_name="toy",thread_pool_name="model_server_batch_threads"'
    assert f"{prefix}queuing_latency_count{{{labels}}} 2" in page
    assert f'{prefix}queuing_latency_bucket{{{labels},le="120"}}' in page
