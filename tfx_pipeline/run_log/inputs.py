"""The inputs of one day's run as one hash: equal inputs need no second run."""

import hashlib
import json

from tfx_pipeline.config.pipeline import PipelineConfig, to_json
from tfx_pipeline.fingerprints import code_fingerprint, files_fingerprint
from tfx_pipeline.tables.inputs import find_tables


def inputs_fingerprint(config: PipelineConfig) -> str:
    """Returns a hash of all inputs of one day's run: configuration, tables, code.

    Args:
      config: Configuration with a date as the window's last day. The hash excludes the output
        folder and the limits of distributions.

    Returns:
      The hash of the inputs.
    """
    described = json.loads(to_json(config))
    for name in ("output", "validation"):
        del described[name]
    tables = find_tables(config.data, config.features)
    parts = (
        json.dumps(described, sort_keys=True),
        files_fingerprint(path for paths in tables.values() for path in paths),
        code_fingerprint("tfx_pipeline.runs.run", "tfx_pipeline.preprocessing"),
    )
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
