import collections

import pyarrow.parquet as pq

from benchmarks import examples, scale, scale_skew, scale_stages
from benchmarks.scale_stages import REST, STAGES
from tests.benchmarks.examples_test import MEASURED
from tests.report_keys import undocumented_keys, unwritten_keys

FASTER = examples.Measurement(50, 1.5, 2.0, 900.0, 12_000, 60_000)


def found(**changes):
    values = {
        "num_users": 10,
        "num_interactions": 600,
        "engines": {scale.LOCAL: FASTER, scale.MULTI_PROCESS: MEASURED},
        "floor_wall_seconds": 0.5,
        "floor_cpu_seconds": 0.4,
    }
    return scale.SizeMeasurement(**{**values, **changes})


def test_rates_are_of_each_engine_and_of_the_floor():
    figures = scale.flatten_size(1000, found(), num_cores=2)

    assert figures["examples.interactions_per_second_per_core"] == 200  # the local engine's
    assert figures["scale.local.1000.interactions_per_second_per_core"] == 200
    assert figures["scale.multi_process.1000.interactions_per_second_per_core"] == 100
    assert figures["scale.multi_process.1000.peak_mb"] == 500
    assert figures["memory.peak_mb"] == 900
    assert figures["floor.interactions_per_second_per_core"] == 600
    assert figures["scale.floor.1000.interactions_per_cpu_second"] == 1500
    assert figures["floor.share_of_cpu_seconds"] == 0.2
    assert not [name for name in figures if name.startswith(("skew", "stage"))]
    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/scale.py") == []


def test_skew_is_a_ratio_and_stages_have_shares():
    stages = {"read": 0.5, REST: 1.5}
    figures = scale.flatten_size(1000, found(skewed=MEASURED, stages=stages), num_cores=2)

    assert figures["skew.wall_ratio"] == 2
    assert figures["skew.cpu_ratio"] == 2
    assert figures["stage.read.share"] == 0.25
    assert figures["stage.rest.cpu_microseconds"] == 2500
    assert undocumented_keys(figures) == []


def test_every_stage_has_its_keys_explained():
    stages = dict.fromkeys((*STAGES, REST), 1.0)
    assert undocumented_keys(scale.flatten_size(1000, found(stages=stages))) == []


def test_stages_are_sums_of_cumulative_times_of_their_functions():
    def entry(seconds):
        return (1, 1, 0.0, seconds, {})

    stats = {
        ("/x/tfx_pipeline/examples/user_batches.py", 1, "pack_events"): entry(1.0),
        ("/x/tfx_pipeline/examples/user_batches.py", 2, "split_by_shard"): entry(0.5),
        ("/x/tfx_pipeline/examples/snapshots.py", 3, "snapshots"): entry(2.0),
        ("/x/trainer/data/snapshots.py", 3, "snapshots"): entry(50.0),
        ("/x/tfx_pipeline/other.py", 3, "pack_events"): entry(50.0),
    }
    stages = scale_stages.by_stage(stats)
    assert {stage: seconds for stage, seconds in stages.items() if seconds} == {
        "part": 1.5,
        "snapshots": 2.0,
    }


def test_stages_of_a_small_log_are_all_found(tmp_path):
    examples.generate(str(tmp_path), 2_000)
    stages = scale_stages.stage_seconds(str(tmp_path))
    assert set(stages) == {*STAGES, REST}
    # Functions that were renamed would have no time at all.
    assert stages["snapshots"] > 0 and stages["serialize"] > 0 and stages[REST] > 0


def test_skewed_log_has_one_heavy_user_and_half_of_the_clicks_on_one_tag(tmp_path):
    _, num_interactions = examples.generate(str(tmp_path), 20_000)
    before = pq.read_table(tmp_path / "tables" / "interactions").to_pylist()

    num_skewed = scale_skew.write_skewed(str(tmp_path))

    rows = pq.read_table(tmp_path / "tables" / "interactions").to_pylist()
    heavy = [row for row in rows if row["user_id"] == scale_skew.HEAVY_USER]
    assert len(rows) == num_skewed == num_interactions + len(heavy)
    assert len(heavy) == num_interactions // 2
    others = [row for row in rows if row["user_id"] != scale_skew.HEAVY_USER]
    columns = ("user_id", "timestamp", "clicked")
    assert collections.Counter(tuple(row[c] for c in columns) for row in others) == (
        collections.Counter(tuple(row[c] for c in columns) for row in before)
    )
    items = pq.read_table(tmp_path / "tables" / "items.parquet").to_pylist()
    tagged = {row["item_id"] for row in items if scale_skew.HEAVY_TAG in row["tags"]}
    clicks = [row["item_id"] in tagged for row in others if row["clicked"]]
    assert 0.48 < sum(clicks) / len(clicks) < 0.53
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_floor_reads_sorts_and_writes_the_interactions(tmp_path):
    examples.generate(str(tmp_path), 2_000)
    wall, cpu = scale.measure_floor(str(tmp_path))
    assert 0 < wall < 60
    assert 0 <= cpu < 60  # of a clock that ticks a hundred times a second
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]
