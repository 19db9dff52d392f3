"""Production of models: readers, Beam transforms, TFX components, wiring, runners, commands.

Importing this package arranges that TFX is imported without extensions that nothing here needs.
"""

from typing import Any

from tfx_pipeline.engines.light_imports import import_extensions_on_demand

import_extensions_on_demand()

_ARTIFACTS = ("IndexEvaluation", "Instances", "LogSummary")


def __getattr__(name: str) -> Any:
    """Returns an artifact type, under the name by which Kubeflow's containers import it.

    It is looked up late: importing it imports TFX, which few commands need.
    """
    if name not in _ARTIFACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tfx_pipeline.components import artifacts

    return getattr(artifacts, name)
