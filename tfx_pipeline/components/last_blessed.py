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
        blessed = {
            artifact.get_int_custom_property(
                constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
            ): artifact
            for artifact in input_dict[MODEL_BLESSING]
            if artifact.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        }
        others = [m for m in input_dict[MODEL] if m.id in blessed and m.id not in current]
        latest = max(others, key=lambda artifact: artifact.id, default=None)
        return {
            CURRENT: input_dict[CURRENT],
            MODEL: [latest] if latest else [],
            MODEL_BLESSING: [blessed[latest.id]] if latest else [],
        }
