"""Which model was the last one to be blessed, not counting the one under evaluation.

TFX's `LatestBlessedModelStrategy` answers with the model just blessed when nothing has changed, so
that a second, unchanged run would have a new input for its Evaluator and never be answered from the
cache.
"""

from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver

CURRENT, MODEL, MODEL_BLESSING = "current", "model", "model_blessing"


class LatestOtherBlessedModelStrategy(resolver.ResolverStrategy):
    """Resolves the latest blessed model that is not `current`."""

    def resolve_artifacts(self, store, input_dict):
        """See `ResolverStrategy`.

        Args:
          store: MLMD.
          input_dict: `model`: all models; `model_blessing`: all blessings; `current`: the model of
            this run.

        Returns:
          The same keys; `model` and `model_blessing` empty where there is no other blessed model.
        """
        del store
        current = {artifact.id for artifact in input_dict[CURRENT]}
        verdicts = {}  # by model: its last verdict
        for artifact in sorted(input_dict[MODEL_BLESSING], key=lambda artifact: artifact.id):
            judged = artifact.get_int_custom_property(
                constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
            )
            verdicts[judged] = artifact
        models = {artifact.id: artifact for artifact in input_dict[MODEL]}
        blessed = [
            (verdict.id, model_id)
            for model_id, verdict in verdicts.items()
            if verdict.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
            and model_id in models
            and model_id not in current
        ]
        _, latest = max(blessed, default=(0, None))
        return {
            CURRENT: input_dict[CURRENT],
            MODEL: [] if latest is None else [models[latest]],
            MODEL_BLESSING: [] if latest is None else [verdicts[latest]],
        }
