"""Beam's bookkeeping without what grows with the number of imported modules.

Two habits of Beam's local runner cost a small pipeline about a tenth of its time in a process that
has imported TFX, with its thousands of modules and loggers. Neither changes a result:

* Every object that is pickled ends with `setLevel` of dill's logger, which makes the logging module
  forget what it knows of every logger there is. Dill's logger gets a manager of its own.
* Every value that a worker keeps for a step is weighed, and for each the namespaces of all modules
  are collected anew, to leave them out. Now they are collected where there are more modules.
"""

import logging
import sys
from collections.abc import Iterator
from typing import Any

from apache_beam.runners.worker import statecache

# With which Beam weighs values.
traverse: Any = statecache.objsize.traverse

_listed_modules = traverse._iter_modules_globals
_of_modules: dict[int, list[dict[str, Any]]] = {}


def lighten_bookkeeping() -> None:
    """Does so in this process, for every pipeline that runs in it; once is enough."""
    logger = logging.getLogger("dill")
    if logger.manager is logging.root.manager:
        manager = logging.Manager(logging.root)
        manager.loggerDict[logger.name] = logger
        logger.manager = manager
    traverse._iter_modules_globals = _module_namespaces


def _module_namespaces() -> Iterator[dict[str, Any]]:
    """The namespaces of the modules that there are, as `objsize` lists them."""
    num = len(sys.modules)
    if num not in _of_modules:
        listed = list(_listed_modules())
        _of_modules.clear()
        # Listing may import: there are modules that load themselves when they are looked at.
        _of_modules[len(sys.modules)] = listed
        return iter(listed)
    return iter(_of_modules[num])
