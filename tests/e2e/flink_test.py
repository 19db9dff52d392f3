"""Pipeline, batch prediction and prepared tables on a local Flink cluster, and its faults.

The tests share one cluster, one log, and what Beam's runner in memory made of the log.
"""

import io
import ipaddress
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv

from tests.e2e.equal_lists import assert_equal_order
from tests.e2e.small_log import make_small_project
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.flink import launch
from tfx_pipeline.flink.java_class_path import find_java, resolve_class_path
from tfx_pipeline.flink.local_cluster import bring_up, get_json, running_jobs, take_down
from tfx_pipeline.flink.processes import find_processes
from tfx_pipeline.terminal.console import Console
from trainer.contract.features import SPLITS

pytestmark = pytest.mark.flink

# Limit of waiting for what takes seconds on a quiet machine.
DEADLINE_S = 600


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flink")
    try:
        find_java()
        resolve_class_path(folder / "maven.log")
    except ValueError as error:
        pytest.skip(str(error))
    ports = dict.fromkeys(("job_port", "rest_port", "pool_port"), 0)
    yield bring_up(folder, ports, DEADLINE_S, print)
    take_down(folder)
    assert find_processes(folder) == {}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_small_project(tmp_path_factory.mktemp("small"))
    configuration = project.configuration()
    configuration["index"]["kind"] = "exact"
    configuration["training"]["max_epochs"] = 1
    project.write_configuration(configuration)
    return project


@pytest.fixture(scope="module")
def write_config(project, cluster) -> Callable[..., Path]:
    """Writes a configuration with its own output folder."""

    def write(name: str, on_flink: bool = True, **sections) -> Path:
        configuration = {**project.configuration(), "output": str(project.folder / name)}
        if on_flink:
            configuration["beam"] = cluster.beam_section()
        for section, values in sections.items():
            configuration[section] = {**configuration[section], **values}
        path = project.folder / f"{name}.yaml"
        path.write_text(json.dumps(configuration), encoding="utf-8")
        return path

    return write


def run_until(config_path: Path, node: str) -> Path:
    """Runs the first part of the pipeline in this process; returns the output folder."""
    from tfx_pipeline.pipeline import create_pipeline
    from tfx_pipeline.pipeline_inputs import find_inputs
    from tfx_pipeline.runs.run import run_nodes

    config = load_config(str(config_path))
    os.makedirs(config.output_dir, exist_ok=True)
    run_nodes(create_pipeline(config, find_inputs(config), until=node), Console(io.StringIO()))
    return Path(config.output_dir)


@pytest.fixture(scope="module")
def local(write_config) -> Path:
    """Returns the output folder of the pipeline's Beam nodes, run in memory."""
    return run_until(write_config("local", on_flink=False), "Transform")


@pytest.fixture(scope="module")
def whole(write_config) -> Path:
    """Returns the output folder of the whole pipeline on Flink."""
    config_path = write_config("whole")
    assert main(["run", "--config", str(config_path)]) == 0
    return Path(load_config(str(config_path)).output_dir)


def artifact(output: Path, node: str, name: str) -> Path:
    (folder,) = filter(Path.is_dir, (output / "artifacts" / node / name).iterdir())
    return folder


def records(folder: Path) -> Counter:
    """Returns the examples of a split, as a multiset."""
    found: Counter = Counter()
    files = sorted(str(path) for path in folder.iterdir())
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        found[tuple(sorted((name, str(features[name])) for name in features))] += 1
    return found


def lines(folder: Path) -> dict[str, list[str]]:
    """Returns the sorted lines of a folder's files, by name."""
    return {
        path.name: sorted(path.read_text("utf-8").splitlines()) for path in folder.glob("*.json*")
    }


def assert_equal_examples(output: Path, expected: Path) -> None:
    for split in (*SPLITS, "now"):
        folders = (artifact(run, "ExampleGen", "examples") for run in (output, expected))
        found, wanted = (records(folder / f"Split-{split}") for folder in folders)
        assert found == wanted, split
        assert found
    for name in ("instances", "summary"):
        found, wanted = (lines(artifact(run, "ExampleGen", name)) for run in (output, expected))
        assert found == wanted


def test_examples_are_those_of_memory(whole, local):
    assert_equal_examples(whole, local)


@pytest.mark.parametrize("split", SPLITS)
def test_statistics_agree_in_counts_and_within_a_tolerance_in_quantiles(whole, local, split):
    folders = (artifact(run, "StatisticsGen", "statistics") for run in (whole, local))
    found, wanted = (
        tfdv.load_stats_binary(str(folder / f"Split-{split}" / "FeatureStats.pb")).datasets[0]
        for folder in folders
    )

    assert found.num_examples == wanted.num_examples > 0
    by_name = {feature.path.step[0]: feature for feature in found.features}
    assert len(by_name) == len(wanted.features)
    for other in wanted.features:
        feature = by_name[other.path.step[0]]
        kind = feature.WhichOneof("stats")
        assert kind == other.WhichOneof("stats")
        statistics, expected = getattr(feature, kind), getattr(other, kind)
        for name in ("num_non_missing", "num_missing", "tot_num_values"):
            assert getattr(statistics.common_stats, name) == getattr(expected.common_stats, name)
        if kind == "string_stats":
            assert statistics.unique == expected.unique
            assert {(v.value, v.frequency) for v in statistics.top_values} == {
                (v.value, v.frequency) for v in expected.top_values
            }
        else:
            assert (statistics.min, statistics.max) == (expected.min, expected.max)
            assert statistics.mean == pytest.approx(expected.mean)
            assert statistics.std_dev == pytest.approx(expected.std_dev)
            tolerance = 0.02 * (expected.max - expected.min)
            assert quantiles(statistics) == pytest.approx(quantiles(expected), abs=tolerance)


def quantiles(statistics) -> list[float]:
    """Returns the upper boundaries of all quantile histograms."""
    return [
        bucket.high_value
        for histogram in statistics.histograms
        if histogram.type == histogram.QUANTILES
        for bucket in histogram.buckets
    ]


def test_vocabularies_and_transformed_examples_are_those_of_memory(whole, local):
    graphs = (artifact(run, "Transform", "transform_graph") for run in (whole, local))
    found, wanted = (graph / "transform_fn" / "assets" for graph in graphs)
    names = sorted(path.name for path in wanted.iterdir())

    assert sorted(path.name for path in found.iterdir()) == names and names
    for name in names:
        assert (found / name).read_bytes() == (wanted / name).read_bytes()
    for split in SPLITS:
        folders = (artifact(run, "Transform", "transformed_examples") for run in (whole, local))
        transformed, expected = (records(folder / f"Split-{split}") for folder in folders)
        assert transformed == expected and transformed


def predict(whole: Path, output: Path, *engine: str) -> int:
    return main(
        ["batch-predict", f"--model_base_path={whole / 'serving'}", f"--output={output}"]
        + [f"--input={whole / 'instances' / '*.jsonl'}", *engine]
    )


def predictions(output: Path) -> dict[str, dict]:
    found = [
        json.loads(line)
        for path in sorted(output.glob("prediction.results-*"))
        for line in path.read_text("utf-8").splitlines()
    ]
    by_user = {line["instance"]["user_id"]: line["prediction"] for line in found}
    assert len(by_user) == len(found) > 0
    return by_user


@pytest.fixture(scope="module")
def local_predictions(whole, tmp_path_factory) -> dict[str, dict]:
    output = tmp_path_factory.mktemp("predicted") / "local"
    assert predict(whole, output) == 0
    return predictions(output)


def assert_equal_predictions(output: Path, expected: dict[str, dict]) -> None:
    found = predictions(output)
    assert found.keys() == expected.keys()
    for user, prediction in found.items():
        assert_equal_order(prediction, expected[user]["tags"], expected[user]["scores"])
        for name in ("scores", "probabilities"):
            assert prediction[name] == pytest.approx(expected[user][name], rel=1e-5, abs=1e-5)


def test_predictions_are_those_of_memory(whole, local_predictions, write_config, tmp_path):
    output = tmp_path / "predicted"

    assert predict(whole, output, f"--config={write_config('engine')}") == 0

    assert_equal_predictions(output, local_predictions)


def test_prepared_tables_are_those_of_memory(write_config, tmp_path):
    # Then each chunk of users is a part: three.
    sizes = {"users": 4100, "tags": 200, "items": 300, "categories": 5}
    options = [f"--num_{name}={number}" for name, number in sizes.items()]
    command = ["prepare", "demo", "--events_per_user=300", *options]
    found, wanted = tmp_path / "flink", tmp_path / "memory"

    assert main([*command, f"--output={wanted}"]) == 0
    assert main([*command, f"--output={found}", f"--config={write_config('engine')}"]) == 0

    assert sorted(path.name for path in tmp_path.iterdir()) == ["flink", "memory"]
    names = sorted(str(path.relative_to(wanted)) for path in wanted.rglob("*") if path.is_file())
    assert "interactions/part-00002.parquet" in names
    assert names == sorted(str(p.relative_to(found)) for p in found.rglob("*") if p.is_file())
    for name in names:
        assert (found / name).read_bytes() == (wanted / name).read_bytes(), name


def listening_hosts(process: psutil.Process) -> set[str]:
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in process.connections()
        if connection.status == psutil.CONN_LISTEN
    }


def test_flink_and_the_worker_pool_listen_on_this_machine_alone(cluster):
    found = find_processes(cluster.folder)
    # Beam's job server has no option for it, nor have the servers that Beam opens in a task manager
    # for a job's workers, which close some seconds after the job (docs/flink.md).
    for name in set(cluster.processes) - {launch.JOB_SERVER}:
        deadline = time.monotonic() + 60
        while True:
            hosts = listening_hosts(found[name][0])
            is_alone = all(ipaddress.ip_address(host).is_loopback for host in hosts)
            if is_alone or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        assert hosts and is_alone, (name, hosts)


def test_cluster_that_is_up_stays_as_it_is(cluster):
    before = find_processes(cluster.folder)

    again = bring_up(cluster.folder, {}, DEADLINE_S, print)

    assert again == cluster
    names = cluster.processes
    found = find_processes(cluster.folder)
    assert [found[name][0].pid for name in names] == [before[name][0].pid for name in names]


# Faults.


@pytest.fixture
def in_background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def wait_for_file(folder: Path, pattern: str, job: Future) -> None:
    """Waits until a worker is writing."""
    deadline = time.monotonic() + DEADLINE_S
    while not any(folder.glob(pattern)):
        assert not job.done(), job.result()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def failures_of_newest_job(cluster) -> list[str]:
    """Returns each reason for which the newest job failed or started again."""
    jobs = get_json(cluster, "/jobs/overview")["jobs"]
    newest = max(jobs, key=lambda job: job["start-time"])["jid"]
    history = get_json(cluster, f"/jobs/{newest}/exceptions")["exceptionHistory"]
    return [entry["exceptionName"] for entry in history["entries"]]


def test_job_whose_worker_is_killed_ends_with_equal_output(
    cluster, write_config, local, in_background
):
    config_path = write_config("worker_killed")
    output = Path(load_config(str(config_path)).output_dir)

    job = in_background.submit(run_until, config_path, "ExampleGen")
    wait_for_file(output, "artifacts/ExampleGen/examples/*/Split-*/*.tmp", job)
    log = cluster.log_path(launch.WORKER_POOL).read_text("utf-8")
    os.kill(int(re.findall(r"worker \S+ is process (\d+)", log)[-1]), signal.SIGKILL)
    job.result(timeout=DEADLINE_S)

    assert failures_of_newest_job(cluster)
    assert_equal_examples(output, local)


def test_job_whose_task_manager_is_killed_goes_on_once_it_is_back(
    cluster, whole, write_config, local_predictions, in_background, tmp_path
):
    output = tmp_path / "predicted"

    job = in_background.submit(predict, whole, output, f"--config={write_config('engine')}")
    wait_for_file(tmp_path / "_predicted.partial" / "work", "*.results", job)
    os.kill(find_processes(cluster.folder)[launch.TASK_MANAGER][0].pid, signal.SIGKILL)
    bring_up(cluster.folder, {}, DEADLINE_S, print)
    status = job.result(timeout=DEADLINE_S)

    assert status == 0
    assert failures_of_newest_job(cluster)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predicted"]
    assert_equal_predictions(output, local_predictions)


def test_damaged_table_ends_the_job_after_the_restarts_in_one_clear_line(
    cluster, project, write_config, capfd, tmp_path
):
    (table,) = (project.tables / "interactions").glob("*.parquet")
    damaged = bytearray(table.read_bytes())
    # Damages the first column's data; the file's metadata is at its end.
    damaged[100:1100] = b"\xff" * 1000
    path = tmp_path / "damaged.parquet"
    path.write_bytes(damaged)
    config_path = write_config("damaged", data={"interactions": str(path)})

    status = main(["run", "--config", str(config_path)])

    error = capfd.readouterr().err
    assert status == 2
    assert len(error.strip().splitlines()) == 1
    assert "ExampleGen: the job failed: " in error and str(path) in error
    assert f"{load_config(str(config_path)).output_dir}/logs/run.log" in error
    assert len(failures_of_newest_job(cluster)) == launch.RESTART_ATTEMPTS + 1
    assert running_jobs(cluster) == []
