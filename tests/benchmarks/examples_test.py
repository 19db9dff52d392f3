from benchmarks import examples
from tests.report_keys import undocumented_keys, unwritten_keys

MEASURED = examples.Measurement(
    num_examples=50,
    wall_seconds=3.0,
    cpu_seconds=4.0,
    peak_mb=500.0,
    shuffled_bytes=12_000,
    written_bytes=60_000,
)


def test_rates_divide_by_wall_time_and_cores_and_by_processor_time():
    figures = examples.flatten(10, 600, MEASURED, num_cores=2)

    assert figures["examples.interactions_per_second"] == 200
    assert figures["examples.interactions_per_second_per_core"] == 100
    assert figures["examples.interactions_per_cpu_second"] == 150
    assert figures["examples.shuffled_bytes_per_interaction"] == 20
    assert figures["examples.written_bytes_per_interaction"] == 100
    assert figures["memory.peak_mb"] == 500
    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/examples.py") == []
    assert "examples.num_interactions" in examples.table(figures)


def test_generated_log_has_about_the_size_asked_for(tmp_path):
    num_users, num_interactions = examples.generate(str(tmp_path), 20_000)

    assert 19_000 < num_interactions < 21_000
    assert 300 < num_users < 400
    assert (tmp_path / "tables" / "users.parquet").exists()


def test_examples_of_a_small_log_are_measured_and_removed(tmp_path):
    _, num_interactions = examples.generate(str(tmp_path), 2_000)

    measured = examples.measure(str(tmp_path), num_shards=2)

    assert measured.num_examples > 35  # one of every user now, and others
    # 17 bytes an event, and each user's id and place.
    assert 17 < measured.shuffled_bytes / num_interactions < 60
    assert measured.written_bytes > num_interactions
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]
