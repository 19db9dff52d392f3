"""What answered a request: the version, the label that the request named, and the signature.

A caller reads it from the answer's metadata (gRPC) or headers (REST), a monitor from the metrics.
"""

import dataclasses
import functools
from urllib.parse import quote

# Names in lower case, as HTTP/2 has them; over HTTP/1.1 case does not matter.
VERSION_KEY = "tagtower-model-version"
LABEL_KEY = "tagtower-version-label"
SIGNATURE_KEY = "tagtower-signature"


@dataclasses.dataclass
class AnsweredBy:
    """What answered a request, as far as it is known yet.

    Attributes:
      model_name: Name of the model in the request.
      label: Label by which the request named the version; empty: it named a number, or nothing.
      version: Number of the version, as text; empty: none was found.
      signature: Signature of the version; empty: none was found.
    """

    model_name: str = ""
    label: str = ""
    version: str = ""
    signature: str = ""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Returns the metadata or headers of an answer; text that is not ASCII is as in a URL."""
        return _pairs(self.version, self.label, self.signature)


@functools.lru_cache(1024)
def _pairs(version: str, label: str, signature: str) -> tuple[tuple[str, str], ...]:
    named = ((VERSION_KEY, version), (LABEL_KEY, label), (SIGNATURE_KEY, signature))
    return tuple((key, quote(value, safe="-._~")) for key, value in named if value)
