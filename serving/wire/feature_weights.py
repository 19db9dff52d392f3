"""Check of the weights of a user's values: finite float32 numbers, 0 or more.

The weights in the log are valid (`tfx_pipeline.tables.validate`), so no model was trained with
others. A NaN or an infinity would make every score of the user NaN, and the order of the tags would
be arbitrary. Servables check the weights in their graph as well, with a shorter message
(`trainer.saved.saved_towers`).
"""

import json
import math

import numpy as np

from trainer.contract.history import MAX_WEIGHT


def wrong_weight(weights: np.ndarray) -> float | None:
    """Finds a weight that no model can take.

    Args:
      weights: float32 of any shape, weights of values.

    Returns:
      The first weight that is not finite or is negative; None: all weights are valid.
    """
    # Checking the minimum and the maximum is fast, and fails for NaN. The single weights are
    # checked only if that fails.
    if not weights.size or (weights.min() >= 0 and weights.max() <= MAX_WEIGHT):
        return None
    return float(weights[~((weights >= 0) & (weights <= MAX_WEIGHT))].flat[0])


def field_without_number(line: str) -> str | None:
    """Names the field of an instance that holds `NaN` or an infinity, which JSON does not have.

    Args:
      line: Instance as JSON, well-formed otherwise.

    Returns:
      A sentence that says what is wrong; None: no field has such a value.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = values.items() if isinstance(values, dict) else ()
    for name, value in fields:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, float) and not math.isfinite(item):
                return (
                    f"`{name}` of the instance must be finite: {json.dumps(item)} is not a JSON "
                    "value."
                )
    return None
