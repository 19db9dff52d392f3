"""How it is produced: readers, Beam transforms, TFX components, wiring, runners, commands.

Importing this package sees to it that TFX is imported without what nothing here needs.
"""

from typing import Any

from tfx_pipeline.engines.light_imports import import_extensions_on_demand

import_extensions_on_demand()

_ARTIFACTS = ("IndexEvaluation", "Instances", "LogSummary")


def __getattr__(name: str) -> Any:
    """The artifact types, under the one name by which Kubeflow's containers import them.

    Looked up late: importing them imports TFX, which few commands need.
    """
    if name not in _ARTIFACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tfx_pipeline.components import artifacts

    return getattr(artifacts, name)
