"""Normalises tags before they are compared; no other module does so.

The readers of the pipeline's tables call it, and so does a caller who holds a user's fresh events,
so that a tag is the same to both. No Beam, no Arrow and no TensorFlow here.
"""

import dataclasses
import itertools
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from tagtower_client.line_breaks import one_line
from trainer.contract.config_loader import from_saved


@dataclasses.dataclass(frozen=True)
class TagNormalization:
    """How the tags of items are normalised.

    It is a section of the configuration, so its texts stand in docs/configuration.md, too.

    Attributes:
      trim: Whether blanks at both ends are removed.
      lowercase: Whether tags are turned into lower case.
      nfc: Whether letters and their accents are composed (Unicode's form NFC), so that `café` is
        one tag however it was typed.
    """

    trim: bool = True
    lowercase: bool = True
    nfc: bool = True

    @classmethod
    def of_version(cls, description: Mapping[str, Any], path: str) -> "TagNormalization":
        """Reads how the tags of a trained version were normalised.

        Args:
          description: Mapping that the version's run wrote. A step that it does not name was not
            done then, whatever the default is today: tags are compared with that run's vocabulary.
          path: Dotted path of the mapping, for messages.

        Returns:
          The normalisation of that version.

        Raises:
          ValueError: A key is unknown or of the wrong type.
        """
        if isinstance(description, Mapping):
            description = {"nfc": False, **description}
        return from_saved(cls, description, path)

    def apply(self, tags: Iterable[str]) -> list[str]:
        """Normalises tags one by one; a result may be empty, which the caller drops."""
        tags = list(tags)
        # Few tags need the costly steps: one check of the joined text tells whether any does.
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
                # Some lower-case letters compose with their mark where upper-case ones do not.
                tags = _composed(tags)
        return tags


def _composed(tags: list[str]) -> list[str]:
    return [tag if tag.isascii() else unicodedata.normalize("NFC", tag) for tag in tags]


def spellings(tag: str) -> list[str]:
    """Returns the spellings that a version may have for a tag, whatever its normalisation.

    Args:
      tag: The tag as a person typed it.

    Returns:
      The tag itself, then the results of all normalisations, the least changed first, without
      repetitions and empty ones.
    """
    switches = itertools.product((False, True), repeat=3)
    found = [tag]
    for lowercase, nfc, trim in switches:
        found += TagNormalization(trim, lowercase, nfc).apply([tag])
    return [spelling for spelling in dict.fromkeys(found) if spelling]
