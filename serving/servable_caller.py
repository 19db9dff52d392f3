"""A servable called in this process, with the instances and signatures of a server's callers."""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from serving.feature_tensors import FeatureValue, input_slots, to_tensors
from serving.model_server.errors import ServingError
from serving.model_server.predict import run_signature
from serving.model_server.servable import Servable
from trainer import signatures as s


class ServableCaller:
    """Loads a version folder and answers `retrieve` and `serving_default`.

    Attributes:
      num_tags: Tags in the index.
    """

    def __init__(self, version_dir: str):
        """Loads the servable.

        Args:
          version_dir: The version folder.
        """
        self._servable = Servable(version_dir)
        self._slots = input_slots(self._servable.signature_defs[s.RETRIEVE])
        with open(os.path.join(version_dir, s.DESCRIPTION_FILE), encoding="utf-8") as file:
            self.num_tags: int = json.load(file)["index"]["num_tags"]

    def retrieve(
        self, features: Sequence[Mapping[str, FeatureValue]]
    ) -> tuple[list[list[str]], list[list[float]]]:
        """Tags and scores of users, best first.

        Args:
          features: One instance a user.

        Returns:
          Tags [batch][k] and scores [batch][k].

        Raises:
          ValueError: A feature is unknown or of the wrong kind, or the model refuses the values.
        """
        return self._run(s.RETRIEVE, to_tensors(features, self._slots))

    def retrieve_examples(
        self, examples: Sequence[bytes]
    ) -> tuple[list[list[str]], list[list[float]]]:
        """The same for serialized `tf.Example`s of raw features."""
        return self._run(s.SERVING_DEFAULT, {s.EXAMPLES: np.array(examples, object)})

    def _run(
        self, signature: str, tensors: dict[str, np.ndarray]
    ) -> tuple[list[list[str]], list[list[float]]]:
        try:
            outputs = run_signature(self._servable, self._servable.signatures[signature], tensors)
        except ServingError as error:
            raise ValueError(f"The model refuses the instances: {error.message}") from error
        tags = [[tag.decode() for tag in row] for row in outputs[s.TAGS].tolist()]
        return tags, outputs[s.SCORES].tolist()
