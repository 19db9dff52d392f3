"""Which weights of a user's values a model can take: finite numbers of float32, 0 or more.

The log's are such numbers (`tfx_pipeline.tables.validate`), so no model has seen another one. A NaN
or an infinity would make every score of the user NaN, and what comes back first is then left to
chance. Servables check it in their graph as well, in fewer words (`trainer.saved.saved_towers`).
"""

import json
import math

import numpy as np

from trainer.contract.history import MAX_WEIGHT


def wrong_weight(weights: np.ndarray) -> float | None:
    """Finds a weight that no model can take.

    Args:
      weights: float32, of any shape.

    Returns:
      The first one that is not finite, or negative; None: there is none.
    """
    # One look at each end; a NaN is neither. Only what is wrong is looked for one by one.
    if not weights.size or (weights.min() >= 0 and weights.max() <= MAX_WEIGHT):
        return None
    return float(weights[~((weights >= 0) & (weights <= MAX_WEIGHT))].flat[0])


def field_without_number(line: str) -> str | None:
    """Names the field of an instance for which `NaN` or an infinity is written, which no JSON has.

    Args:
      line: An instance as JSON, else well-formed.

    Returns:
      What is wrong, in a sentence; None: something else is.
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
                    f"`{name}` of the instance must be finite: {json.dumps(item)} is no JSON value."
                )
    return None
