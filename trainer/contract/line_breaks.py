"""Text values without line breaks: the only place where a value is made one line.

Vocabularies are files with one value a line, and the transform leaves a value with a line break out
of them without a word. So no value has one: tags, categories, profile values and item ids pass
through here when tables are read, and when a caller makes features. No Arrow and no TensorFlow.
"""

import re

_BREAKS = re.compile("[\r\n]+")


def one_line(text: str) -> str:
    """A value without line breaks: those at its ends are taken off, others become one blank."""
    if text.isprintable() or not _BREAKS.search(text):
        return text
    return _BREAKS.sub(" ", text.strip("\r\n"))
