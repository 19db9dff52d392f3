"""Converts an id to text, the one form in which ids are compared.

The same id is 7 in one file, 7.0 in the next (as a column with gaps is often written) and "7" in a
third. Its text depends on the value alone. The readers of the tables convert whole columns by the
same rules (`tfx_pipeline.tables.cells.as_id`; a test compares both); this module converts the ids
of a live caller's events. No Arrow and no TensorFlow here.
"""

from __future__ import annotations

import decimal
import uuid
from typing import Any

import numpy as np

# Beyond this number a float stands for several integers.
LARGEST_EXACT_FLOAT = 2.0**53


def id_text(value: Any) -> str | None:
    """Converts an id to text.

    Args:
      value: Text, an integer, a whole float or decimal, a UUID.

    Returns:
      The text; None for a value that is no id: an empty text, white space, a boolean, a float with
      a fraction or too large to be exact, a value of another type.
    """
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        is_exact = number.is_integer() and abs(number) <= LARGEST_EXACT_FLOAT
        return str(int(number)) if is_exact else None
    if isinstance(value, decimal.Decimal):
        return decimal_text(value) if value.is_finite() else None
    return str(value) if isinstance(value, uuid.UUID) else None


def decimal_text(value: decimal.Decimal) -> str:
    """Writes a decimal without zeros at its end: 7.00 as "7", 12.50 as "12.5", of any scale."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
