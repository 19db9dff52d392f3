"""What a run of one day comes from, as one hash: equal ones need no second run."""

import hashlib
import json

from tfx_pipeline.config.pipeline import PipelineConfig, to_json
from tfx_pipeline.fingerprints import code_fingerprint, files_fingerprint
from tfx_pipeline.tables.inputs import find_tables


def inputs_fingerprint(config: PipelineConfig) -> str:
    """Hash of everything that a run of one day comes from: configuration, tables, code.

    Args:
      config: The configuration, with a date as the window's last day. Where its output is, and how
        far distributions may move, is no part of it.

    Returns:
      The hash.
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
