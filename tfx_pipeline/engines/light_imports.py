"""Importing TFX without the clients of services that nothing here calls.

`tfx.v1` imports `tfx.v1.extensions`, and with it Google's client of Vertex AI: thousands of message
types, a third of the import time of TFX. With this module they are imported only when they are
used. A specification for Vertex AI needs none of them (`tfx_pipeline.runs.vertex`).
"""

import importlib
import os
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

_PACKAGE = "tfx.v1.extensions"


class _ExtensionsOnDemand(MetaPathFinder, Loader):
    """Finds the package of extensions; it is empty until one of its modules is used."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != _PACKAGE or path is None:
            return None
        spec = ModuleSpec(fullname, self, is_package=True)
        name = fullname.rpartition(".")[2]
        spec.submodule_search_locations = [os.path.join(folder, name) for folder in path]
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        def load(name: str) -> types.ModuleType:
            # Code that inspects all modules, such as `inspect`, asks for names like this.
            if name.startswith("_"):
                raise AttributeError(name)
            try:
                return importlib.import_module(f"{_PACKAGE}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{_PACKAGE}.{name}":
                    raise
                raise AttributeError(name) from None

        module.__getattr__ = load  # type: ignore[method-assign]


def import_extensions_on_demand() -> None:
    """Delays the extensions in this process; to be called before the first import of `tfx.v1`."""
    if not any(isinstance(finder, _ExtensionsOnDemand) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ExtensionsOnDemand())
