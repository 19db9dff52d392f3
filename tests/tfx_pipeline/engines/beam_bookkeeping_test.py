"""What is left out of Beam's bookkeeping changes neither levels nor sizes nor signatures."""

import logging
import sys
import types

import apache_beam as beam
import dill
import pytest
from apache_beam import coders
from apache_beam.internal import pickler
from apache_beam.runners.worker import statecache
from apache_beam.transforms import core, userstate

from tfx_pipeline.engines import beam_bookkeeping
from tfx_pipeline.engines.beam_bookkeeping import lighten_bookkeeping, traverse


def test_pickling_clears_no_other_loggers_memory():
    lighten_bookkeeping()
    other = logging.getLogger("tests.some")
    assert other.isEnabledFor(logging.CRITICAL)

    assert pickler.loads(pickler.dumps({"a": 1})) == {"a": 1}

    assert other._cache == {logging.CRITICAL: True}


def test_dill_still_traces_when_it_is_told_to():
    lighten_bookkeeping()
    logger = logging.getLogger("dill")
    found = []
    for is_traced in (True, False, True, False):
        dill.dill._trace(is_traced)
        found.append(logger.isEnabledFor(logging.INFO))

    assert found == [True, False, True, False]
    assert logger.level == logging.WARNING


def test_values_of_a_step_weigh_the_same():
    values = [1, "text", [b"a" * 1000] * 3, {"x": [1.5] * 50}, (sys, logging), None]
    traverse._iter_modules_globals = beam_bookkeeping._listed_modules
    expected = [statecache.get_deep_size(value) for value in values]

    lighten_bookkeeping()
    lighten_bookkeeping()

    assert [statecache.get_deep_size(value) for value in values] == expected
    # Modules are not counted, hence of a list with two of them only the list.
    assert expected[2] > 1000 > expected[4]


def test_namespace_of_a_module_imported_meanwhile_is_left_out(monkeypatch):
    lighten_bookkeeping()
    statecache.get_deep_size(1)
    module = types.ModuleType("tests.made_meanwhile")
    module.large = b"a" * 100_000

    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert statecache.get_deep_size([vars(module)]) < 1_000


COUNT, OTHER = (
    beam.DoFn.StateParam(userstate.ReadModifyWriteStateSpec(name, coders.VarIntCoder()))
    for name in ("count", "other")
)


class Counting(beam.DoFn):
    def process(self, element, count=COUNT, by=1):
        yield element


class CountingMore(Counting):
    def finish_bundle(self, other=OTHER):
        pass


@pytest.mark.parametrize(
    "made, names",
    [(Counting, {"count"}), (CountingMore, {"count", "other"}), (beam.DoFn, set())],
)
def test_state_of_a_function_is_found_each_time(made, names):
    lighten_bookkeeping()
    for _ in range(2):
        states, timers = userstate.get_dofn_specs(made())

        assert {state.name for state in states} == names and timers == set()


def plain(a, b=2):
    pass


@pytest.mark.parametrize(
    "function",
    [plain, Counting().process, Counting.process, "text".upper, core.DoFn.from_callable, print],
)
def test_arguments_and_defaults_are_those_that_beam_finds(function):
    expected = beam_bookkeeping._inspect_signature(function)
    lighten_bookkeeping()

    for _ in range(2):
        args, defaults = core.get_function_args_defaults(function)
        assert (args, defaults) == expected
        # A caller may change its lists.
        args.append("other")
        defaults.clear()


def test_signature_of_a_method_is_inspected_once(monkeypatch):
    lighten_bookkeeping()
    inspected = []
    inspect = beam_bookkeeping._inspect_signature
    monkeypatch.setattr(
        beam_bookkeeping, "_inspect_signature", lambda f: inspected.append(f) or inspect(f)
    )

    class New(beam.DoFn):
        def process(self, element):
            yield element

    userstate.get_dofn_specs(New())
    first = [f.__name__ for f in inspected]
    userstate.get_dofn_specs(New())

    assert first.count("process") == 1 and len(inspected) == len(first)
