"""Calls of a servable in this process, with the same instances and signatures as a server."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from serving.model_server.errors import ServingError
from serving.model_server.session.predict import run_signature
from serving.model_server.session.servable import Servable
from tagtower_client.feature_tensors import FeatureValue, input_slots, to_tensors
from trainer.contract import signatures as s
from trainer.contract.whole_files import read_json


class Retrieved(NamedTuple):
    """The retrieved tags of users, best first.

    Attributes:
      tags: [batch][k], tag names.
      scores: [batch][k], scores of the tags.
      probabilities: [batch][k], probabilities of the tags; None if an old servable gives no
        probabilities.
    """

    tags: list[list[str]]
    scores: list[list[float]]
    probabilities: list[list[float]] | None


class ServableCaller:
    """Loads a version folder and answers `retrieve` and `serving_default`.

    Attributes:
      slots: Inputs of `retrieve`, by feature.
      num_tags: Number of tags in the index.
    """

    def __init__(self, version_dir: str):
        """Loads the servable of a version.

        Args:
          version_dir: Folder of the version.
        """
        self._servable = Servable(version_dir)
        self.slots = input_slots(self._servable.signature_defs[s.RETRIEVE])
        path = os.path.join(version_dir, s.DESCRIPTION_FILE)
        description = read_json(path, s.DESCRIPTION_REMEDY, required={"index": dict})
        self.num_tags: int = description["index"]["num_tags"]

    def retrieve(self, features: Sequence[Mapping[str, FeatureValue]]) -> Retrieved:
        """Returns the tags, scores and probabilities of users, best first.

        Args:
          features: One instance per user.

        Returns:
          The servable's answer.

        Raises:
          ValueError: A feature is unknown or of the wrong kind, or the model refuses the values.
        """
        return self._run(s.RETRIEVE, to_tensors(features, self.slots))

    def retrieve_examples(self, examples: Sequence[bytes]) -> Retrieved:
        """Returns what `retrieve` returns, for serialized `tf.Example`s of raw features."""
        return self._run(s.SERVING_DEFAULT, {s.EXAMPLES: np.array(examples, object)})

    def _run(self, signature: str, tensors: dict[str, np.ndarray]) -> Retrieved:
        try:
            outputs = run_signature(self._servable, self._servable.signatures[signature], tensors)
        except ServingError as error:
            raise ValueError(f"The model refuses the instances: {error.message}") from error
        tags = [list(map(bytes.decode, row)) for row in outputs[s.TAGS].tolist()]
        probabilities = outputs.get(s.PROBABILITIES)
        return Retrieved(
            tags,
            outputs[s.SCORES].tolist(),
            None if probabilities is None else probabilities.tolist(),
        )
