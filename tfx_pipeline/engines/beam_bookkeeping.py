"""Beam's bookkeeping, without costs that grow with the number of imported modules.

Two habits of Beam's local runner cost a small pipeline about a tenth of its time in a process that
has imported TFX, with its thousands of modules and loggers. Avoiding them changes no result:

* Every pickling ends with `setLevel` of dill's logger, which makes the logging module clear the
  caches of all loggers. Here dill's logger gets a manager of its own.
* Every value that a worker keeps for a step is measured, and each time the namespaces of all
  modules are collected again, to exclude them. Here they are collected again only when there are
  more modules.
"""

import logging
import sys
from collections.abc import Iterator
from typing import Any

from apache_beam.runners.worker import statecache

# The function with which Beam measures values.
traverse: Any = statecache.objsize.traverse

_listed_modules = traverse._iter_modules_globals
_of_modules: dict[int, list[dict[str, Any]]] = {}


def lighten_bookkeeping() -> None:
    """Lightens the bookkeeping of all pipelines in this process; one call is enough."""
    logger = logging.getLogger("dill")
    if logger.manager is logging.root.manager:
        manager = logging.Manager(logging.root)
        manager.loggerDict[logger.name] = logger
        logger.manager = manager
    traverse._iter_modules_globals = _module_namespaces


def _module_namespaces() -> Iterator[dict[str, Any]]:
    """Returns the namespaces of the loaded modules, as `objsize` lists them."""
    num = len(sys.modules)
    if num not in _of_modules:
        listed = list(_listed_modules())
        _of_modules.clear()
        # Listing may import modules: some load themselves when they are inspected.
        _of_modules[len(sys.modules)] = listed
        return iter(listed)
    return iter(_of_modules[num])
