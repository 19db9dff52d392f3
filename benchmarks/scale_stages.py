"""Where the processor time of making examples goes: a profile of one thread, by stage."""

import cProfile
import pstats
import time
from collections.abc import Mapping

# By stage, the functions whose time, with all that they call, is the stage's: (file, name).
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
    """Seconds of processor time by stage; `rest` is Beam, the items and the summary."""
    from benchmarks.examples import measure

    # The whole without the profile, which costs most where functions are small: in Beam.
    total = measure(folder, num_threads=1).cpu_seconds
    profile = cProfile.Profile(time.process_time)
    profile.runcall(measure, folder, num_threads=1)
    return by_stage(pstats.Stats(profile).stats, total)  # type: ignore[attr-defined]


def by_stage(
    stats: Mapping[tuple[str, int, str], tuple[int, int, float, float, object]], total: float
) -> dict[str, float]:
    """Sums a profile by stage.

    Args:
      stats: Of `pstats.Stats`: by (path, line, function) counts, own and cumulative time.
      total: Seconds of the whole run.

    Returns:
      Seconds by stage, and what is left of `total`.
    """
    found = {
        stage: sum(
            entry[3]
            for (path, _, name), entry in stats.items()
            if (path.rpartition("/")[2], name) in functions and "tfx_pipeline" in path
        )
        for stage, functions in STAGES.items()
    }
    return {**found, REST: max(total - sum(found.values()), 0.0)}
