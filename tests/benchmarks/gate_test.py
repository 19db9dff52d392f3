import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import gate
from tests.report_keys import undocumented_keys, unwritten_keys
from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig


def figures(noise, interests):
    """Figures of as many logs a kind as there are words: what failed, empty where all passed."""
    found = {"gate.num_logs": len(noise)}
    for kind, logs in ((gate.NOISE, noise), (gate.INTERESTS, interests)):
        found |= {f"gate.{kind}.seed_{seed}.failed": failed for seed, failed in enumerate(logs)}
        found[f"gate.{kind}.num_passed"] = sum(not failed for failed in logs)
    return found


def test_keys_are_those_of_the_registry(monkeypatch, tmp_path):
    passed = gate.GateRun(1, 30, 0.5, 0.4, "")
    monkeypatch.setattr(gate, "OUTPUT_DIR", tmp_path)
    monkeypatch.setattr(gate, "call_in_fresh_process", lambda *arguments: passed)
    monkeypatch.setenv("SIZE", "2")

    found = gate.run(print)

    assert len(found) == 1 + 2 * (1 + 2 * 5)
    assert found["gate.noise.num_passed"] == 2
    assert undocumented_keys(found) == []
    assert unwritten_keys(found, "benchmarks/gate.py") == []


def test_table_counts_what_failed():
    rows = gate.table(figures(["a; b", "a"], ["", ""])).splitlines()

    assert rows[2].split() == ["noise", "2", "0", "a", "(2),", "b", "(1)"]
    assert rows[3].split() == ["interests", "2", "2", "-"]


@pytest.mark.parametrize(
    ("noise", "interests", "expected"),
    [
        (["a"] * 20, [""] * 20, []),
        (["a"] * 19 + [""], [""] * 20, []),
        (["a"] * 18 + ["", ""], [""] * 20, ["more than 1 of 20 logs of noise passed the gate"]),
        (["a"] * 20, [""] * 19 + ["a"], ["a log with interests did not pass the gate"]),
        (["a"] * 2, ["", ""], []),
        (["a", ""], ["", ""], ["more than 0 of 2 logs of noise passed the gate"]),
    ],
)
def test_faults_are_noise_that_passes_and_interests_that_do_not(noise, interests, expected):
    assert gate.faults(figures(noise, interests)) == expected


def share_of_own_interests(folder):
    """Of the clicks, those whose item has a tag that is planted in the user."""
    planted = {}
    for line in (folder / "planted.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        planted[row["user_id"]] = {
            tag for value in row.values() if isinstance(value, list) for tag in value
        }
    items = pq.read_table(folder / "items.parquet").to_pylist()
    tags = {row["item_id"]: set(row["tags"]) for row in items}
    rows = pq.read_table(folder / "interactions").to_pylist()
    own = [bool(tags[row["item_id"]] & planted[row["user_id"]]) for row in rows]
    clicked = [row["clicked"] for row in rows]
    return np.mean(own), np.mean([o for o, c in zip(own, clicked, strict=True) if c])


def test_on_a_log_of_noise_nobody_sees_or_clicks_their_own_interests_more_than_a_stranger(tmp_path):
    small = gate._LOG | {"num_users": 300}
    for kind in gate._KINDS:
        prepare_demo(str(tmp_path / kind), DemoConfig(**small, **gate._KINDS[kind], seed=1))

    shown, clicked = share_of_own_interests(tmp_path / gate.NOISE)
    assert shown == pytest.approx(clicked, rel=0.1)
    of_interests = share_of_own_interests(tmp_path / gate.INTERESTS)
    assert of_interests[0] > 1.5 * shown
    assert of_interests[1] > 1.5 * of_interests[0]
