"""Five days of one log, the third of them broken: each day's run ends with a version or a reason.

The tests share one project. Each asks for a step of its life, which is taken then, after those
before it, and checks what the step recorded: the order of the tests does not matter. All days run
in this process, which imports TFX once.
"""

import contextlib
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
from tests.e2e.steps import step
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


@dataclasses.dataclass(frozen=True)
class Ran:
    """What `tagtower run` printed and left.

    Attributes:
      status: Exit status of the command.
      out: Output of the command.
      err: Error output of the command.
      latest: `report.json` of the output folder; None: there is none.
      runs: Reports of all runs so far, in order.
      versions: Numbers of the pushed versions, in order.
      served: Version with which the server answers; None: the server has not been started.
      baseline: Accepted day with which the fourth day would be compared.
    """

    status: int
    out: str
    err: str
    latest: dict | None
    runs: list[dict]
    versions: list[int]
    served: int | None
    baseline: str | None

    @property
    def report(self) -> dict:
        return self.runs[-1]


@dataclasses.dataclass
class DailyLog:
    """A log that grows by one day at a time, and the steps of its life.

    Attributes:
      folder: Folder of all files.
      interactions: Interactions of all days.
      users: Users of all days.
      resources: Holder of the server and its client, which ends them.
      client: Client of a server that has run since the second day; None: before that.
      capfd: Captured output of the test that runs.
    """

    folder: Path
    interactions: pa.Table
    users: pa.Table
    resources: contextlib.ExitStack
    client: TagClient | None = None
    capfd: pytest.CaptureFixture[str] | None = None

    @property
    def output(self) -> Path:
        return self.folder / "run"

    @property
    def config(self) -> str:
        return str(self.folder / "config.yaml")

    def add_day(self, day: str, *, is_broken: bool = False) -> None:
        """Writes the partition of a day, and the users as they are exported on that day."""
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

    def tagtower(self, *arguments: str) -> tuple[int, str, str]:
        """Runs a command here; returns exit status, output and error output."""
        self.capfd.readouterr()
        status = main([*arguments, "--config", self.config])
        return status, *self.capfd.readouterr()

    def run_latest(self, *flags: str) -> Ran:
        """Runs `tagtower run --day latest`; waits until the server serves what was pushed."""
        status, out, err = self.tagtower("run", "--day", "latest", *flags)
        runs, path = self.runs(), self.output / "report.json"
        if self.client is not None and status == 0:
            wait_for_version(self.client, runs[-1]["push.version"])
        return Ran(
            status,
            out,
            err,
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else None,
            runs,
            self.versions(),
            None if self.client is None else served_version(self.client),
            last_baseline(str(self.output / "statistics"), DAYS[3]),
        )

    def start_server(self) -> None:
        """Starts a server, which runs until the last test."""
        config = ModelConfig("default", str(self.output / "serving"))
        server = self.resources.enter_context(ModelServer([config], port=0))
        server.wait_until_available(timeout_s=1200)
        client = TagClient(f"localhost:{server.port}", timeout_s=60)
        self.client = self.resources.enter_context(client)

    def runs(self) -> list[dict]:
        """Returns the reports of all runs, in order."""
        paths = sorted((self.output / "runs").glob("*/report.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def versions(self) -> list[int]:
        """Returns the numbers of the pushed versions, in order."""
        paths = (self.output / "serving").glob("*")
        return sorted(int(path.name) for path in paths if path.name.isdigit())

    @step
    def first(self) -> Ran:
        """Runs the first day, which has a whole window."""
        self.add_day(DAYS[0])
        return self.run_latest()

    @step
    def first_again(self) -> Ran:
        """Runs the first day again, which is finished."""
        self.first()
        return self.run_latest()

    @step
    def second(self) -> Ran:
        """Runs the second day, with a broken file before its window, and starts the server."""
        self.first_again()
        before = next((self.folder / "log" / "date=2024-01-01").glob("*.parquet"))
        before.write_bytes(b"no Parquet file any more")
        self.add_day(DAYS[1])
        ran = self.run_latest()
        self.start_server()
        return ran

    @step
    def broken(self) -> Ran:
        """Runs the third day, which is broken."""
        second = self.second()
        assert served_version(self.client) == second.versions[-1]
        self.add_day(DAYS[2], is_broken=True)
        return self.run_latest()

    @step
    def broken_again(self) -> Ran:
        """Runs the third day again."""
        self.broken()
        return self.run_latest()

    @step
    def fourth(self) -> Ran:
        """Runs the fourth day, whose day before was not pushed."""
        self.broken_again()
        self.add_day(DAYS[3])
        return self.run_latest()

    @step
    def fifth(self) -> Ran:
        """Runs the fifth day, an ordinary one."""
        self.fourth()
        self.add_day(DAYS[4])
        return self.run_latest()

    @step
    def listed(self) -> tuple[list[str], dict]:
        """Lists the five runs and compares two; returns the lines and the comparison."""
        self.fifth()
        status, listed, err = self.tagtower("runs")
        assert status == 0, err
        status, compared, err = self.tagtower("runs", "compare", DAYS[1], DAYS[4], "--json")
        assert status == 0, err
        return listed.splitlines(), json.loads(compared)

    @step
    def checked(self) -> dict[str, tuple[int, dict, int]]:
        """Checks requests like the training examples, and others without some features.

        Returns:
          By the names `good` and `bad`, exit status, answer and number of the requests.
        """
        self.listed()
        good = [
            json.loads(line)
            for path in sorted((self.output / "instances").glob("*.jsonl"))
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        bad = [one | {"clicked_tags": one["clicked_tags"][:1]} for one in good]
        for one in bad:
            del one["clicked_tags_weights"], one["segment"]
        checks = {}
        for name, requests in (("good", good), ("bad", bad)):
            path = self.folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps(one) + "\n" for one in requests), encoding="utf-8")
            status, out, _ = self.tagtower("check-requests", "--requests", str(path), "--json")
            checks[name] = status, json.loads(out), len(requests)
        return checks

    @step
    def accepted(self) -> Ran:
        """Runs the third day once more and accepts its drift."""
        self.checked()
        # Two days are given: the last one counts.
        return self.run_latest(f"--day={DAYS[2]}", "--accept_drift")


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("daily")
    tables = folder / "tables"
    prepare_demo(str(tables), LOG)
    resources = contextlib.ExitStack()
    made = DailyLog(
        folder,
        pq.read_table(tables / "interactions"),
        pq.read_table(tables / "users.parquet"),
        resources,
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
                # Other tests check that the gates decide.
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
    with resources:
        yield made


@pytest.fixture
def log(shared_log, capfd):
    shared_log.capfd = capfd
    return shared_log


def served_version(client) -> int:
    return client.retrieve([{}]).model_version


def wait_for_version(client, version: int) -> None:
    deadline = time.monotonic() + 1200
    while served_version(client) != version:
        assert time.monotonic() < deadline, f"version {version} is not served"
        time.sleep(0.1)


def warm_start_of(report: dict) -> int | None:
    return report.get("train.warm_start.kept_rows")


def test_first_day_pushes_a_version_from_the_days_of_the_window(log):
    ran = log.first()

    assert ran.status == 0, ran.out + ran.err
    report = ran.latest
    assert report["run.state"] == "pushed" and report["run.reason"] is None
    assert report["window.day"] == DAYS[0] and report["window.first_day"] == "2024-01-01"
    assert report["window.num_days"] == WINDOW_DAYS
    # The last day tests, the one before validates.
    assert report["split.test_start"] == START + 5 * DAY_SECONDS
    assert report["split.validation_start"] == START + 4 * DAY_SECONDS
    assert report["drift.baseline_day"] is None
    assert warm_start_of(report) is None
    assert report["push.version"] == ran.versions[-1]
    assert ran.runs == [report]
    assert undocumented_keys(report) == []
    assert unwritten_keys(report) == []
    assert unwritten_keys(report, "tfx_pipeline/tables/daily_window.py") == []
    assert unwritten_keys(report, "tfx_pipeline/components/drift_validator.py") == []


def test_finished_day_started_again_says_so_and_runs_nothing(log):
    ran = log.first_again()

    assert ran.status == 0, ran.out + ran.err
    (line,) = ran.out.strip().splitlines()
    assert line.startswith(f"{DAYS[0]} is done: version {ran.versions[-1]} in ")
    assert len(ran.runs) == 1


def test_second_day_starts_from_the_first_days_model_and_opens_no_file_before_the_window(log):
    ran = log.second()

    assert ran.status == 0, ran.out + ran.err
    report = ran.report
    assert report["window.first_day"] == "2024-01-02"
    assert (report["window.day"], report["drift.baseline_day"]) == (DAYS[1], DAYS[0])
    assert 0 < report["drift.clicked_tags.l_infinity"] < 0.1
    # A threshold of 0 is exceeded, but only warned of.
    assert report["drift.num_violations"] == 1
    assert f"drift from {DAYS[0]}: feature `clicked_tags`" in ran.out
    assert warm_start_of(report) > 0
    assert len(ran.versions) == 2


def test_broken_day_pushes_nothing_and_says_which_feature(log):
    second = log.second().versions[-1]
    ran = log.broken()

    assert ran.status == 3
    (line,) = ran.err.strip().splitlines()
    assert "feature `segment`: L-infinity distance" in line and f"those of {DAYS[1]}" in line
    assert "Transform" not in ran.out and "Trainer" not in ran.out
    report = ran.report
    assert report["run.state"] == "not pushed" and report["window.day"] == DAYS[2]
    assert "feature `segment`" in report["run.reason"]
    assert undocumented_keys(report) == []
    assert ran.latest is None
    assert ran.versions[-1] == second
    assert ran.served == second


def test_broken_day_started_again_says_the_reason_again(log):
    ran = log.broken_again()

    assert ran.status == 3
    assert ran.out.startswith(f"{DAYS[2]} is done: run ") and "feature `segment`" in ran.out
    assert len(ran.runs) == 3


def test_next_day_goes_on_from_the_last_good_one(log):
    ran = log.fourth()

    assert ran.status == 0, ran.out + ran.err
    assert ran.report["drift.baseline_day"] == DAYS[1]
    assert ran.report["drift.segment.l_infinity"] < 0.1
    assert warm_start_of(ran.report) > 0
    assert len(ran.versions) == 3
    assert ran.served == ran.report["push.version"]


def test_fifth_day_is_an_ordinary_one(log):
    ran = log.fifth()

    assert ran.status == 0, ran.out + ran.err
    assert ran.report["drift.baseline_day"] == DAYS[3]
    assert ran.served == ran.report["push.version"]


def test_runs_lists_five_days_and_compares_two(log):
    reports = log.fifth().runs
    listed, compared = log.listed()

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


def test_requests_like_the_training_examples_pass_and_others_do_not(log):
    version = log.fifth().versions[-1]
    checks = log.checked()

    status, answer, num_requests = checks["good"]
    assert status == 0, answer
    assert answer["version"] == version
    assert answer["num_requests"] == num_requests == LOG.num_users
    status, answer, _ = checks["bad"]
    assert status == 3
    verdicts = {row["feature"]: row["verdict"] for row in answer["features"]}
    assert verdicts["segment"] == "fail"


def test_day_whose_drift_is_accepted_is_pushed_and_becomes_the_baseline(log):
    refused, before = log.broken().report, log.fifth()
    ran = log.accepted()

    assert before.baseline == DAYS[1]
    assert ran.status == 0, ran.out + ran.err
    report = ran.report
    assert report["window.day"] == refused["window.day"] == DAYS[2]
    assert report["drift.baseline_day"] == DAYS[1]
    # The refusal is now a warning, with the same distance.
    assert f"drift from {DAYS[1]}: feature `segment`: L-infinity distance" in ran.out
    distance = f"{report['drift.segment.l_infinity']:.4g}"
    assert report["drift.segment.l_infinity"] > 0.1 and distance in refused["run.reason"]
    assert report["drift.num_violations"] == 2
    assert report["push.version"] == ran.versions[-1]
    assert ran.served == report["push.version"]
    assert ran.baseline == DAYS[2]
