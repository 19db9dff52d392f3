"""How tags are made equal before they are compared: the only place where a tag is normalised.

The readers of the pipeline's tables call it, and so does a caller who holds a user's fresh events,
so that both mean the same tag. No Beam, no Arrow and no TensorFlow here.
"""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class TagNormalization:
    """How tags are normalised.

    Attributes:
      trim: take white space off both ends.
      lowercase: fold to lower case (Unicode).
    """

    trim: bool = True
    lowercase: bool = True

    def apply(self, tags: Iterable[str]) -> list[str]:
        """Normalises tags, one by one; an empty one is no tag, and left for the caller to drop."""
        if self.trim:
            tags = [tag.strip() for tag in tags]
        if self.lowercase:
            tags = [tag.lower() for tag in tags]
        return list(tags)
