"""The component resolves a window over days; the log ends with the window's last day."""

import dataclasses
import json
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts

from tests.tfx_pipeline.examples.example_runs import parse, read_jsonl
from tests.tfx_pipeline.examples.random_users import item_rows, write_jsonl
from tfx_pipeline.components.artifacts import Instances, LogSummary
from tfx_pipeline.components.example_gen import WINDOW_FILE, Executor
from tfx_pipeline.config.beam import BeamConfig
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.pipeline import PipelineConfig, to_json
from tfx_pipeline.config.utc_times import utc_seconds
from tfx_pipeline.examples.user_lookup import find_user
from trainer.contract import features as f
from trainer.contract.history import UserEvents, feature_values

SPEC = f.FeatureSpec(history_window_days=2, domains=(f.Domain("clicked", attribute="item_id"),))
EXAMPLES = ExamplesConfig(split="temporal", validation_days=1, test_days=1, num_shards=1)
DAYS = [f"2024-05-0{number}" for number in range(1, 6)]
ITEMS = [row["item_id"] for row in item_rows()]
NUM_USERS = 3
HOUR = 3_600


def event(day, hour, number, user):
    return {
        "user_id": user,
        "item_id": ITEMS[number % len(ITEMS)],
        "timestamp": utc_seconds(day) + hour * HOUR,
        "clicked": 1,
    }


@pytest.fixture
def data(tmp_path):
    """Three users click one item a day, at noon; the first day's file is unreadable."""
    users = [f"u{i}" for i in range(NUM_USERS)]
    for number, day in enumerate(DAYS):
        rows = [event(day, 12, number, user) for user in users]
        write_jsonl(tmp_path / "log" / day / "part.jsonl", rows)
    (tmp_path / "log" / DAYS[0] / "part.parquet").write_bytes(b"no Parquet file")
    return DataConfig(
        interactions=str(tmp_path / "log" / "{date}"),
        items=write_jsonl(tmp_path / "items.jsonl", item_rows()),
        users=write_jsonl(tmp_path / "users.jsonl", [{"user_id": user} for user in users]),
        window=WindowConfig(days=4),
    )


@dataclasses.dataclass
class Made:
    """The outputs of the component."""

    examples: standard_artifacts.Examples
    folder: Path

    def snapshots(self, split):
        paths = sorted(map(str, (self.folder / "examples" / f"Split-{split}").glob("*")))
        return [parse(r) for r in tf.data.TFRecordDataset(paths, "GZIP").as_numpy_iterator()]

    def instances(self):
        return [
            row for path in (self.folder / "instances").glob("*.jsonl") for row in read_jsonl(path)
        ]

    @property
    def window(self):
        return json.loads((self.folder / "summary" / WINDOW_FILE).read_text("utf-8"))

    @property
    def counts(self):
        return json.loads((self.folder / "summary" / "counts.json").read_text("utf-8"))


def generate(folder, data, day=""):
    artifacts = {
        "examples": standard_artifacts.Examples(),
        "instances": Instances(),
        "summary": LogSummary(),
    }
    for name, artifact in artifacts.items():
        artifact.uri = str(folder / name)
    args = BeamConfig().pipeline_args()
    context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=args)
    Executor(context).Do(
        {},
        {name: [artifact] for name, artifact in artifacts.items()},
        {
            "data": to_json(data),
            "day": day,
            "features": to_json(SPEC),
            "examples_config": to_json(EXAMPLES),
            "rejected_dir": str(folder / "rejected"),
            "tables": "",
            "code": "",
        },
    )
    return Made(artifacts["examples"], folder)


def test_latest_day_ends_the_log_and_no_file_before_the_window_is_opened(data, tmp_path):
    made = generate(tmp_path / "out", data)

    assert made.window == {
        "window.first_day": DAYS[1],
        "window.day": DAYS[4],
        "window.num_days": 4,
        "window.num_missing_days": 0,
    }
    assert made.examples.span == utc_seconds(DAYS[4]) // 86_400
    assert made.counts["rows.read.interactions"] == 4 * NUM_USERS
    # The last day tests, the one before validates.
    assert made.counts["split.validation_start"] == utc_seconds(DAYS[3])
    assert made.counts["split.test_start"] == utc_seconds(DAYS[4])
    # *Now* is the end of the day, not one second after its last event; two days of history.
    end = utc_seconds(DAYS[4]) + 24 * HOUR
    now = made.snapshots("now")
    assert [row["snapshot_time"] for row in now] == [[end]] * NUM_USERS
    assert [row["clicked"] for row in now] == [sorted([ITEMS[3], ITEMS[4]])] * NUM_USERS
    (test, *_) = made.snapshots("test")
    assert test["clicked"] == sorted([ITEMS[2], ITEMS[3]]) and test["label_items"] == [ITEMS[4]]


def test_live_caller_and_query_see_the_features_of_the_instance(data, tmp_path):
    made = generate(tmp_path / "out", data, day=DAYS[4])
    config = PipelineConfig("log", data, SPEC, examples=EXAMPLES)

    found = find_user(config, "u1")

    values = feature_values(found.events, found.profile, found.now, SPEC)
    (instance,) = [row for row in made.instances() if row["user_id"] == "u1"]
    assert {"user_id": "u1", **values} == instance
    # A caller with more history than the window gets the same features.
    whole = [event(day, 12, number, "u1") for number, day in enumerate(DAYS)]
    assert feature_values(UserEvents.from_records(whole), {}, found.now, SPEC) == values


def test_day_that_comes_in_stands_above_the_configurations(data, tmp_path):
    (tmp_path / "log" / DAYS[0] / "part.parquet").unlink()

    made = generate(tmp_path / "out", data, day=DAYS[3])

    assert made.window["window.first_day"] == DAYS[0] and made.window["window.day"] == DAYS[3]
    assert made.counts["split.test_start"] == utc_seconds(DAYS[3])


def test_events_of_another_day_are_in_the_future_whenever_the_run_is(data, tmp_path):
    path = tmp_path / "log" / DAYS[4] / "part.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    # Clocks that run ahead have a day of grace; the run itself is years later.
    rows += [event(DAYS[4], hours, 0, "u0") for hours in (24 + 12, 48 + 12)]
    write_jsonl(path, rows)
    data = dataclasses.replace(data, max_rejected_fraction=0.5)

    made = generate(tmp_path / "out", data)

    assert made.counts["rows.rejected.timestamp_in_future"] == 1
    last = utc_seconds(DAYS[4]) + 36 * HOUR
    assert {row["snapshot_time"][0] for row in made.snapshots("now")} == {last + 1}
