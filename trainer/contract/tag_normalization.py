"""How tags are made equal before they are compared: the only place where a tag is normalised.

The readers of the pipeline's tables call it, and so does a caller who holds a user's fresh events,
so that both mean the same tag. No Beam, no Arrow and no TensorFlow here.
"""

import dataclasses
import itertools
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.contract.config_loader import from_saved
from trainer.contract.line_breaks import one_line


@dataclasses.dataclass(frozen=True)
class TagNormalization:
    """How tags are normalised.

    Attributes:
      trim: take white space off both ends.
      lowercase: fold to lower case (Unicode).
      nfc: put letters and their marks together (Unicode's normalisation form C), so that a tag is
        one however its accents were typed.
    """

    trim: bool = True
    lowercase: bool = True
    nfc: bool = True

    @classmethod
    def of_version(cls, description: Mapping[str, Any], path: str) -> "TagNormalization":
        """Reads how the tags of a trained version were normalised.

        Args:
          description: As its run wrote it. What it does not name was not done then, whatever is the
            default today: tags are compared with the vocabulary of that run.
          path: Where it stands, for messages.

        Returns:
          The normalisation.

        Raises:
          ValueError: A key is unknown or of the wrong type.
        """
        if isinstance(description, Mapping):
            description = {"nfc": False, **description}
        return from_saved(cls, description, path)

    def apply(self, tags: Iterable[str]) -> list[str]:
        """Normalises tags, one by one; an empty one is no tag, and left for the caller to drop."""
        tags = list(tags)
        # Nearly all tags need the cheap steps alone: one look at all of them says whether these do.
        joined = "".join(tags)
        composes = self.nfc and not joined.isascii()
        if "\n" in joined or "\r" in joined:
            tags = [one_line(tag) for tag in tags]
        if composes:
            tags = _composed(tags)
        if self.trim:
            tags = [tag.strip() for tag in tags]
        if self.lowercase:
            tags = [tag.lower() for tag in tags]
            if composes:
                # Some small letters have a form with their mark that the capital one lacks.
                tags = _composed(tags)
        return tags


def _composed(tags: list[str]) -> list[str]:
    return [tag if tag.isascii() else unicodedata.normalize("NFC", tag) for tag in tags]


def spellings(tag: str) -> list[str]:
    """The ways in which a version may spell a tag, for callers who cannot know which it is.

    Args:
      tag: As somebody typed it.

    Returns:
      The tag itself, then as each normalisation there is makes it, the least changed first; no
      repetition and no empty one.
    """
    switches = itertools.product((False, True), repeat=3)
    found = [tag]
    for lowercase, nfc, trim in switches:
        found += TagNormalization(trim, lowercase, nfc).apply([tag])
    return [spelling for spelling in dict.fromkeys(found) if spelling]
