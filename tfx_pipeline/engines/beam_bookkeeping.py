"""Beam's bookkeeping, without costs that grow with the number of imported modules.

Three habits of Beam cost a small pipeline about a fifth of its time, two of them because a process
that has imported TFX has thousands of modules and loggers. Avoiding them changes no result:

* Every pickling ends with `setLevel` of dill's logger, which makes the logging module clear the
  caches of all loggers. Here dill's logger gets a manager of its own.
* Every value that a worker keeps for a step is measured, and each time the namespaces of all
  modules are collected again, to exclude them. Here they are collected again only when there are
  more modules.
* Each of a pipeline's several hundred functions is searched some ten times for state and timers,
  and every search inspects the signatures of its thirty methods, most of them inherited. Here a
  signature is inspected once.
"""

import logging
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.runners.worker import statecache
from apache_beam.transforms import core

# The function with which Beam measures values.
traverse: Any = statecache.objsize.traverse

_listed_modules = traverse._iter_modules_globals
_of_modules: dict[int, list[dict[str, Any]]] = {}

_inspect_signature = core.get_function_args_defaults
_of_methods = weakref.WeakKeyDictionary[types.FunctionType, tuple[list[str], list[Any]]]()


def lighten_bookkeeping() -> None:
    """Lightens the bookkeeping of all pipelines in this process; one call is enough."""
    logger = logging.getLogger("dill")
    if logger.manager is logging.root.manager:
        manager = logging.Manager(logging.root)
        manager.loggerDict[logger.name] = logger
        logger.manager = manager
    traverse._iter_modules_globals = _module_namespaces
    core.get_function_args_defaults = _args_and_defaults


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


def _args_and_defaults(function: Callable[..., Any]) -> tuple[list[str], list[Any]]:
    """Returns the names of arguments and the defaults, as Beam finds them."""
    inner = function.__func__ if isinstance(function, types.MethodType) else None
    if not isinstance(inner, types.FunctionType):
        return _inspect_signature(function)
    # A bound method has the arguments of its function but the first, whatever it is bound to.
    if inner not in _of_methods:
        _of_methods[inner] = _inspect_signature(function)
    args, defaults = _of_methods[inner]
    return list(args), list(defaults)
