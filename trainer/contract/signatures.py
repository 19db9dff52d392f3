"""The contract between training, serving and callers: signatures, tensors, files of a version.

The names of signatures and tensors are those of `tagtower_client.signatures`, which callers have as
well; the files beside a SavedModel concern this project alone.
"""

from tagtower_client.signatures import *  # noqa: F403 - every name of the callers' module

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# The feature specification and the figures of the version, beside the SavedModel, for clients and
# people.
DESCRIPTION_FILE = "assets.extra/tagtower.json"
# The time and the sources of a pushed version; the Pusher writes it.
PROVENANCE_FILE = "assets.extra/version.json"
DESCRIPTION_REMEDY = "push the version again, or roll back to another one"
