"""Resolvers for the last blessed model, except those that an unchanged run made itself.

TFX's `LatestBlessedModelStrategy` returns the model just blessed when nothing has changed, so that
a second, unchanged run would have a new input and never be cached. Hence the Evaluator compares
with the last *other* model, and a warm start begins from the last model trained on *other
examples*: a model of today's examples is not the start of a repeated run, nor of one that only
changes the configuration.

A rolled-back model no longer counts as blessed: nothing is compared with it, and no training starts
from it.
"""

from collections.abc import Collection, Iterable, Sequence

import ml_metadata as mlmd
from ml_metadata import proto
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver

from tfx_pipeline.versions.pushed_versions import rolled_back_as

CURRENT, MODEL, MODEL_BLESSING = "current", "model", "model_blessing"


class _Strategy(resolver.ResolverStrategy):
    """Base of the strategies, which identifies models that were rolled back."""

    def __init__(self, base_path: str = ""):
        """Initializes with the folder of pushed versions.

        Args:
          base_path: Folder of the pushed versions; empty: no version was rolled back.
        """
        super().__init__()
        self._base_path = base_path

    def _rolled_back(self, models: Iterable[types.Artifact]) -> set[int]:
        if not self._base_path:
            return set()
        return {
            model.id for model in models if rolled_back_as(self._base_path, model.uri) is not None
        }


class LatestOtherBlessedModelStrategy(_Strategy):
    """Resolves the latest blessed model that is not `current`."""

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Selects the latest other blessed model, as `ResolverStrategy` requires.

        Args:
          store: MLMD store, unused.
          input_dict: Artifacts by name: `model`, all models; `model_blessing`, all blessings;
            `current`, the model of this run.

        Returns:
          Artifacts by the same names; `model` and `model_blessing` are empty where there is no
          other blessed model.
        """
        del store
        current = {artifact.id for artifact in input_dict[CURRENT]}
        return _latest(input_dict, current | self._rolled_back(input_dict[MODEL]))


class LatestBlessedModelOfOtherExamplesStrategy(_Strategy):
    """Resolves the latest blessed model that was not trained on `current`."""

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Selects the latest blessed model of other examples, as `ResolverStrategy` requires.

        Args:
          store: MLMD store, which knows the examples that each model was trained on.
          input_dict: Artifacts by name: `model`, all models; `model_blessing`, all blessings;
            `current`, the transformed examples of this run.

        Returns:
          Artifacts by the same names; `model` and `model_blessing` are empty where no model fits.
        """
        examples = {artifact.id for artifact in input_dict[CURRENT]}
        models = [artifact.id for artifact in input_dict[MODEL]]
        made_from = _made_from(store, models, examples)
        return _latest(input_dict, made_from | self._rolled_back(input_dict[MODEL]))


def _latest(
    input_dict: dict[str, list[types.Artifact]], excluded: Collection[int]
) -> dict[str, list[types.Artifact]]:
    """Returns the inputs reduced to the latest blessed model not excluded, and its blessing."""
    verdicts = {}  # last verdict by model
    for artifact in sorted(input_dict[MODEL_BLESSING], key=lambda artifact: artifact.id):
        judged = artifact.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
        verdicts[judged] = artifact
    models = {artifact.id: artifact for artifact in input_dict[MODEL]}
    blessed = [
        (verdict.id, model_id)
        for model_id, verdict in verdicts.items()
        if verdict.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        and model_id in models
        and model_id not in excluded
    ]
    _, latest = max(blessed, default=(0, None))
    return {
        CURRENT: input_dict[CURRENT],
        MODEL: [] if latest is None else [models[latest]],
        MODEL_BLESSING: [] if latest is None else [verdicts[latest]],
    }


def _made_from(
    store: mlmd.MetadataStore, artifacts: Sequence[int], sources: Collection[int]
) -> set[int]:
    """Returns the artifacts made by executions that read one of `sources`."""
    made = _events(store.get_events_by_artifact_ids(artifacts), proto.Event.OUTPUT)
    if not made:
        return set()
    executions = sorted({event.execution_id for event in made})
    read = _events(store.get_events_by_execution_ids(executions), proto.Event.INPUT)
    readers = {event.execution_id for event in read if event.artifact_id in sources}
    return {event.artifact_id for event in made if event.execution_id in readers}


def _events(events: Iterable[proto.Event], kind: int) -> list[proto.Event]:
    return [event for event in events if event.type == kind]
