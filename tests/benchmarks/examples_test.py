from benchmarks import examples
from tests.report_keys import undocumented_keys


def test_rates_divide_by_wall_and_by_processor_time():
    figures = examples.flatten(
        num_users=10,
        num_interactions=600,
        num_examples=50,
        wall_seconds=3.0,
        cpu_seconds=2.0,
        peak_mb=500.0,
    )

    assert figures["examples.interactions_per_second"] == 200
    assert figures["examples.interactions_per_second_per_core"] == 300
    assert figures["memory.peak_mb"] == 500
    assert undocumented_keys(figures) == []
    assert "examples.num_interactions" in examples.table(figures)


def test_generated_log_has_about_the_size_asked_for(tmp_path):
    num_users, num_interactions = examples.generate(str(tmp_path), 20_000)

    assert 19_000 < num_interactions < 21_000
    assert 300 < num_users < 400
    assert (tmp_path / "tables" / "users.parquet").exists()
