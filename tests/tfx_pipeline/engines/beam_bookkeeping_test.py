"""The bookkeeping that is left out of Beam changes neither levels nor sizes."""

import logging
import sys
import types

import dill
from apache_beam.internal import pickler
from apache_beam.runners.worker import statecache

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
