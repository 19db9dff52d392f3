"""Work in threads gives the same results as without."""

import threading

import apache_beam as beam
import pytest
from apache_beam import pvalue
from apache_beam.testing.util import assert_that, equal_to

from tfx_pipeline.examples.threaded_fn import ThreadedFn

DEADLINE_S = 60


class Tens(ThreadedFn):
    """Returns n's tens, and whether it is odd as a tagged output; refuses 13."""

    def work(self, element, unit):
        if element == 13:
            raise ValueError("13 is refused")
        yield element * unit
        yield pvalue.TaggedOutput("odd", element % 2)


class Meeting(ThreadedFn):
    """Makes two elements wait for each other."""

    barrier = threading.Barrier(2)

    def work(self, element):
        self.barrier.wait(timeout=DEADLINE_S)
        yield element


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("elements", [[], [1], [*range(12)]])
def test_every_output_comes_once(num_threads, elements):
    with beam.Pipeline() as pipeline:
        unit = pipeline | "Unit" >> beam.Create([10])
        found = (
            pipeline
            | "Elements" >> beam.Create(elements)
            | beam.ParDo(Tens(num_threads), pvalue.AsSingleton(unit)).with_outputs(
                "odd", main="tens"
            )
        )
        assert_that(found.tens, equal_to([10 * n for n in elements]), label="tens")
        # Grouping needs a window; elements yielded at the end of a bundle have one, too.
        grouped = found.odd | beam.combiners.Count.PerElement()
        expected = {n % 2: [m % 2 for m in elements].count(n % 2) for n in elements}
        assert_that(grouped, equal_to([*expected.items()]), label="odd")


def test_outputs_keep_the_order_of_the_elements():
    function = Tens(3)
    function.setup()
    function.start_bundle()
    found = [one for n in range(8) for one in function.process(n, 10)]
    rest = [*function.finish_bundle()]
    function.teardown()
    assert rest  # what came last was not waited for
    tens = [one for one in found if isinstance(one, int)]
    tens += [one.value for one in rest if not isinstance(one, pvalue.TaggedOutput)]
    assert tens == [10 * n for n in range(8)]


def test_elements_are_worked_on_at_the_same_time():
    function = Meeting(2)
    function.setup()
    function.start_bundle()
    found = [*function.process("one"), *function.process("other")]
    found += [one.value for one in function.finish_bundle()]
    function.teardown()
    assert found == ["one", "other"]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_failure_of_one_element_fails_the_run(num_threads):
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([*range(20)]) | beam.ParDo(Tens(num_threads), 10)
    with pytest.raises(ValueError, match="13 is refused"):
        pipeline.run().wait_until_finish()


def test_what_a_failed_bundle_left_is_forgotten():
    function = Tens(2)
    function.setup()
    function.start_bundle()
    assert [*function.process(13, 10)] == []  # its failure has not been looked at
    function.start_bundle()
    assert [*function.finish_bundle()] == []
    function.teardown()
