"""Measures the processor time of making examples by stage, with a profiler in one thread."""

import cProfile
import pstats
import tempfile
import time
from collections.abc import Mapping

# Functions (file, name) by stage, whose time with all that they call is the time of the stage.
STAGES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "read": (("arrow_files.py", "read_batches"),),
    "check": (("validate.py", "validate_interactions"), ("validate.py", "validate_users")),
    "part": (
        ("user_batches.py", "pack_events"),
        ("user_batches.py", "pack_profiles"),
        ("user_batches.py", "split_by_shard"),
        ("shuffle.py", "write"),
    ),
    "gather": (("shuffle.py", "open_parcel"), ("shard_users.py", "gather_users")),
    "snapshots": (("snapshots.py", "snapshots"),),
    "serialize": (("tf_examples.py", "serialize_columns"),),
    "compress": (("record_file.py", "write"),),
    "instances": (("instance_lines.py", "instance_lines"),),
}
REST = "rest"


def stage_seconds(folder: str) -> dict[str, float]:
    """Measures seconds of processor time by stage; `rest` is Beam, the items and the summary.

    The rest is measured separately, without a profiler and without interactions: a profiler costs
    most where functions are small, as in Beam.
    """
    from benchmarks.examples import generate, measure

    with tempfile.TemporaryDirectory(dir=folder) as nearly_nothing:
        generate(nearly_nothing, 1)
        rest = measure(nearly_nothing, num_threads=1).cpu_seconds
    profile = cProfile.Profile(time.process_time)
    profile.runcall(measure, folder, num_threads=1)
    return {**by_stage(pstats.Stats(profile).stats), REST: rest}  # type: ignore[attr-defined]


def by_stage(
    stats: Mapping[tuple[str, int, str], tuple[int, int, float, float, object]],
) -> dict[str, float]:
    """Sums the times of a profiler by stage.

    Args:
      stats: Counts, own and cumulative times by (path, line, function), as in `pstats.Stats`.

    Returns:
      Seconds by stage.
    """
    return {
        stage: sum(
            entry[3]
            for (path, _, name), entry in stats.items()
            if (path.rpartition("/")[2], name) in functions and "tfx_pipeline" in path
        )
        for stage, functions in STAGES.items()
    }
