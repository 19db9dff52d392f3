"""Five days of one log, the third of them broken: each day's run ends with a version or a reason.

The tests share one project and run in order: each is a step of its life. All days run in this
process, which imports TFX once.
"""

import dataclasses
import datetime
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from serving.client import TagClient
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from tests.e2e.small_log import SMALLEST_GRAPH
from tests.report_keys import undocumented_keys, unwritten_keys
from tfx_pipeline.cli import main
from tfx_pipeline.components.drift_validator import last_baseline
from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig

pytestmark = pytest.mark.e2e

DAY_SECONDS = 86_400
START = 1_704_067_200  # 2024-01-01
WINDOW_DAYS = 6
LOG = DemoConfig(
    num_users=150,
    num_tags=96,
    num_items=300,
    num_categories=6,
    events_per_user=60,
    interests_per_user=3,
    start_time=START,
    end_time=START + 10 * DAY_SECONDS,
    seed=5,
)
# The five days; the log begins a window before the first.
DAYS = [f"2024-01-{number:02d}" for number in range(6, 11)]


@dataclasses.dataclass
class DailyLog:
    """A log that grows by a day."""

    folder: Path
    interactions: pa.Table
    users: pa.Table

    @property
    def output(self) -> Path:
        return self.folder / "run"

    @property
    def config(self) -> str:
        return str(self.folder / "config.yaml")

    def add_day(self, day: str, *, is_broken: bool = False) -> None:
        """The partition of a day, and the users as they are exported that day."""
        begin = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.timezone.utc)
        seconds = self.interactions.column("timestamp")
        first = int(begin.timestamp())
        is_of_day = pc.and_(pc.greater_equal(seconds, first), pc.less(seconds, first + DAY_SECONDS))
        folder = self.folder / "log" / f"date={day}"
        folder.mkdir(parents=True)
        pq.write_table(self.interactions.filter(is_of_day), folder / "part-0.parquet")
        users = self.users
        if is_broken:  # an export that has lost a column's values
            place = users.schema.get_field_index("segment")
            users = users.set_column(place, "segment", pa.array([""] * users.num_rows))
        pq.write_table(users, self.folder / f"users-{day}.parquet")
        (folder / "_SUCCESS").touch()

    def run_latest(self, capfd, *flags: str) -> tuple[int, str, str]:
        """`tagtower run --day latest`; exit status, output, error output."""
        capfd.readouterr()
        status = main(["run", "--config", self.config, "--day", "latest", *flags])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    def runs(self) -> list[dict]:
        """The reports of all runs, in order."""
        paths = sorted((self.output / "runs").glob("*/report.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def versions(self) -> list[int]:
        folder = self.output / "serving"
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("daily")
    tables = folder / "tables"
    prepare_demo(str(tables), LOG)
    made = DailyLog(
        folder, pq.read_table(tables / "interactions"), pq.read_table(tables / "users.parquet")
    )
    Path(made.config).write_text(
        yaml.safe_dump(
            {
                "name": "daily",
                "output": str(made.output),
                "data": {
                    "interactions": str(folder / "log" / "date={date}"),
                    "items": str(tables / "items.parquet"),
                    "users": str(folder / "users-{date}.parquet"),
                    "window": {"days": WINDOW_DAYS, "marker": "_SUCCESS"},
                },
                "features": {
                    "history_window_days": 5,
                    "profile": [{"name": "segment"}],
                    "domains": [{"name": "clicked_tags", "max_values": 60}],
                },
                "examples": {
                    "split": "temporal",
                    "validation_days": 1,
                    "test_days": 1,
                    "snapshots_per_user": 2,
                    "num_shards": 1,
                },
                "validation": {
                    "drift": {
                        "segment": {"l_infinity": 0.1},
                        "clicked_tags": {"l_infinity": 0.0, "on_violation": "warn"},
                    },
                    "skew": {
                        "segment": {"l_infinity": 0.2},
                        "clicked_tags": {"l_infinity": 0.2},
                    },
                },
                "model": SMALLEST_GRAPH | {"hidden_dim": 16, "output_dim": 8},
                "training": {
                    "max_epochs": 1,
                    "budget_steps": 0,
                    "min_steps": 0,
                    "batch_size": 32,
                    "warm_start": True,
                    "joint_weight": 0.0,
                },
                # That gates are asked is tested elsewhere.
                "gate": {
                    "min_relative_gain": -0.99,
                    "min_relative_novel_gain": -0.99,
                    "min_click_gauc": 0.0,
                    "min_relative_distinct": 0.0,
                    "min_relative_coverage": 0.0,
                    "too_few_users": "warn",
                    "max_relative_loss": 1.0,
                },
                "index": {"kind": "exact", "k": 10, "export_exact": False},
            }
        ),
        encoding="utf-8",
    )
    for number in range(1, WINDOW_DAYS):
        made.add_day(f"2024-01-{number:02d}")
    return made


@pytest.fixture(scope="module")
def client(log):
    """A client of a server that has run since the second day."""
    config = ModelConfig("default", str(log.output / "serving"))
    with ModelServer([config], port=0) as server:
        server.wait_until_available(timeout_s=1200)
        with TagClient(f"localhost:{server.port}", timeout_s=60) as client:
            yield client


def served_version(client) -> int:
    return client.retrieve([{}]).model_version


def wait_for_version(client, version: int) -> None:
    deadline = time.monotonic() + 1200
    while served_version(client) != version:
        assert time.monotonic() < deadline, f"version {version} is not served"
        time.sleep(0.1)


def warm_start_of(report: dict) -> int | None:
    return report.get("train.warm_start.kept_rows")


def test_first_day_pushes_a_version_from_the_days_of_the_window(log, capfd):
    log.add_day(DAYS[0])
    status, out, err = log.run_latest(capfd)

    assert status == 0, out + err
    report = json.loads((log.output / "report.json").read_text(encoding="utf-8"))
    assert report["run.state"] == "pushed" and report["run.reason"] is None
    assert report["window.day"] == DAYS[0] and report["window.first_day"] == "2024-01-01"
    assert report["window.num_days"] == WINDOW_DAYS
    # The last day tests, the one before validates.
    assert report["split.test_start"] == START + 5 * DAY_SECONDS
    assert report["split.validation_start"] == START + 4 * DAY_SECONDS
    assert report["drift.baseline_day"] is None
    assert warm_start_of(report) is None
    assert report["push.version"] == log.versions()[-1]
    assert log.runs() == [report]
    assert undocumented_keys(report) == []
    assert unwritten_keys(report) == []
    assert unwritten_keys(report, "tfx_pipeline/tables/daily_window.py") == []
    assert unwritten_keys(report, "tfx_pipeline/components/drift_validator.py") == []


def test_finished_day_started_again_says_so_and_runs_nothing(log, capfd):
    status, out, err = log.run_latest(capfd)

    assert status == 0, out + err
    (line,) = out.strip().splitlines()
    assert line.startswith(f"{DAYS[0]} is done: version {log.versions()[-1]} in ")
    assert len(log.runs()) == 1


def test_second_day_starts_from_the_first_days_model_and_opens_no_file_before_the_window(
    log, capfd
):
    before = next((log.folder / "log" / "date=2024-01-01").glob("*.parquet"))
    before.write_bytes(b"no Parquet file any more")
    log.add_day(DAYS[1])

    status, out, err = log.run_latest(capfd)

    assert status == 0, out + err
    report = log.runs()[-1]
    assert report["window.first_day"] == "2024-01-02"
    assert (report["window.day"], report["drift.baseline_day"]) == (DAYS[1], DAYS[0])
    assert 0 < report["drift.clicked_tags.l_infinity"] < 0.1
    # Beyond a threshold of 0, and only warned of.
    assert report["drift.num_violations"] == 1
    assert f"drift from {DAYS[0]}: feature `clicked_tags`" in out
    assert warm_start_of(report) > 0
    assert len(log.versions()) == 2


def test_broken_day_pushes_nothing_and_says_which_feature(log, client, capfd):
    second = log.versions()[-1]
    assert served_version(client) == second
    log.add_day(DAYS[2], is_broken=True)

    status, out, err = log.run_latest(capfd)

    assert status == 3
    (line,) = err.strip().splitlines()
    assert "feature `segment`: L-infinity distance" in line and f"those of {DAYS[1]}" in line
    assert "Transform" not in out and "Trainer" not in out
    report = log.runs()[-1]
    assert report["run.state"] == "not pushed" and report["window.day"] == DAYS[2]
    assert "feature `segment`" in report["run.reason"]
    assert undocumented_keys(report) == []
    assert not (log.output / "report.json").exists()
    assert log.versions()[-1] == second
    assert served_version(client) == second


def test_broken_day_started_again_says_the_reason_again(log, capfd):
    status, out, _ = log.run_latest(capfd)

    assert status == 3
    assert out.startswith(f"{DAYS[2]} is done: run ") and "feature `segment`" in out
    assert len(log.runs()) == 3


def test_next_day_goes_on_from_the_last_good_one(log, client, capfd):
    log.add_day(DAYS[3])

    status, out, err = log.run_latest(capfd)

    assert status == 0, out + err
    report = log.runs()[-1]
    assert report["drift.baseline_day"] == DAYS[1]
    assert report["drift.segment.l_infinity"] < 0.1
    assert warm_start_of(report) > 0
    assert len(log.versions()) == 3
    wait_for_version(client, report["push.version"])


def test_fifth_day_is_an_ordinary_one(log, client, capfd):
    log.add_day(DAYS[4])

    status, out, err = log.run_latest(capfd)

    assert status == 0, out + err
    report = log.runs()[-1]
    assert report["drift.baseline_day"] == DAYS[3]
    wait_for_version(client, report["push.version"])


def test_runs_lists_five_days_and_compares_two(log, capfd):
    reports = log.runs()
    capfd.readouterr()

    assert main(["runs", "--config", log.config]) == 0
    listed = capfd.readouterr().out.splitlines()
    assert main(["runs", "compare", DAYS[1], DAYS[4], "--config", log.config, "--json"]) == 0
    compared = json.loads(capfd.readouterr().out)

    rows = [next(line for line in listed if line.startswith(r["run.id"])) for r in reports]
    assert [DAYS[i] in row for i, row in enumerate(rows)] == [True] * 5
    assert [str(r.get("push.version")) in row for r, row in zip(reports, rows, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
    ]
    assert listed[-1].startswith(f"{reports[2]['run.id']} not pushed: DriftValidator: ")
    assert compared == [reports[1], reports[4]]


def test_requests_like_the_training_examples_pass_and_others_do_not(log, tmp_path, capfd):
    instances = [
        json.loads(line)
        for path in sorted((log.output / "instances").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(json.dumps(one) + "\n" for one in instances), encoding="utf-8")
    lost = [one | {"clicked_tags": one["clicked_tags"][:1]} for one in instances]
    for one in lost:
        del one["clicked_tags_weights"], one["segment"]
    bad.write_text("".join(json.dumps(one) + "\n" for one in lost), encoding="utf-8")

    def check(path: Path) -> tuple[int, dict]:
        capfd.readouterr()
        command = ["check-requests", "--config", log.config, "--requests", str(path), "--json"]
        status = main(command)
        return status, json.loads(capfd.readouterr().out)

    status, answer = check(good)
    assert status == 0, answer
    assert answer["version"] == log.versions()[-1]
    assert answer["num_requests"] == len(instances) == LOG.num_users
    status, answer = check(bad)
    assert status == 3
    verdicts = {row["feature"]: row["verdict"] for row in answer["features"]}
    assert verdicts["segment"] == "fail"


def test_day_whose_drift_is_accepted_is_pushed_and_becomes_the_baseline(log, client, capfd):
    day = DAYS[2]
    refused = next(report for report in log.runs() if report["window.day"] == day)
    statistics = str(log.output / "statistics")
    assert last_baseline(statistics, DAYS[3]) == DAYS[1]

    # Of two days the last counts.
    status, out, err = log.run_latest(capfd, f"--day={day}", "--accept_drift")

    assert status == 0, out + err
    report = log.runs()[-1]
    assert report["window.day"] == day
    assert report["drift.baseline_day"] == DAYS[1]
    # What was refused is now a warning, with the distance that it had then.
    assert f"drift from {DAYS[1]}: feature `segment`: L-infinity distance" in out
    distance = f"{report['drift.segment.l_infinity']:.4g}"
    assert report["drift.segment.l_infinity"] > 0.1 and distance in refused["run.reason"]
    assert report["drift.num_violations"] == 2
    assert report["push.version"] == log.versions()[-1]
    wait_for_version(client, report["push.version"])
    assert last_baseline(statistics, DAYS[3]) == day
