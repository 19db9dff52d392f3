"""Removes line breaks from text values; no other module does so.

Vocabularies are files with one value a line, and the transform silently leaves out a value with a
line break. So tags, categories, values of profile features and item ids lose their line breaks
here, when tables are read and when a caller computes features. No Arrow and no TensorFlow.
"""

from __future__ import annotations

import re

_BREAKS = re.compile("[\r\n]+")


def one_line(text: str) -> str:
    """Removes the line breaks at the ends of a text and replaces others by one blank each."""
    if text.isprintable() or not _BREAKS.search(text):
        return text
    return _BREAKS.sub(" ", text.strip("\r\n"))
