"""Runs a whole study of defaults on tiny logs, from tables to report, twice."""

import json
import os
from pathlib import Path

import pytest
import yaml

from tfx_pipeline.cli import main

pytestmark = pytest.mark.e2e

BASE = {
    "name": "tiny",
    "data": {"interactions": "i", "items": "t", "users": "u"},
    "features": {
        "profile": [{"name": "segment"}],
        "domains": [
            {"name": "clicked_tags", "max_values": 50},
            {"name": "skipped_tags", "events": "skipped", "max_values": 50},
        ],
    },
    "model": {"interaction": "bag", "hidden_dim": 8, "output_dim": 8, "embedding_dim": 8},
    "training": {"max_epochs": 1, "budget_steps": 0, "min_steps": 0},
}
DEMO = {
    "num_users": 160,
    "num_tags": 120,
    "num_items": 300,
    "num_categories": 6,
    "events_per_user": 25,
    "interests_per_user": 3,
}
DEFAULTS = {
    "default": {},
    "same": {"model": {"interaction": "bag"}},
    "no_path": {"model": {"linear_path": "none"}},
    "recent": {"recent_days": 20},
}


def test_study_of_defaults_from_tables_to_report_and_again(tmp_path, capfd):
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(BASE))
    study = {
        "name": "tiny",
        "seeds": [0],
        "movielens_dir": str(tmp_path / "none"),
        "logs": {
            "ml": {"config": "movielens-1m", "movielens_1m": {}},
            "few": {"config": str(base), "demo": DEMO, "num_users": 130, "draws": [3]},
        },
        "defaults": DEFAULTS,
    }
    path, output = tmp_path / "study.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    arguments = ["study", "--config", str(path), "--output", str(output)]

    assert main(arguments) == 0

    said = capfd.readouterr().out
    missing = f"{tmp_path}/none/ml-1m/"
    assert f"log ml is left out: {missing}" in said
    # Of four defaults two are the same training.
    assert "3 trials, 0 of them finished already" in said
    report = (output / "study.md").read_text()
    assert f"Log `ml` is left out: {missing}" in report
    rows = {line.split(" | ")[0].strip("| ") for line in report.splitlines() if line[:2] == "| "}
    assert {*DEFAULTS, "ease own history", "ease", "neighbours", "blend", "shown"} <= rows

    content = json.loads((output / "study.json").read_text())
    runs = content["runs"]
    assert [(run["draw"], run["default"]) for run in runs] == [(3, name) for name in DEFAULTS]
    trials = [run["trial"] for run in runs]
    assert trials[0] == trials[1]
    assert len({*trials}) == 3
    assert runs[3]["data_set"] == "few.draw_3.with_recent"
    of_default = [run["metrics"]["eval.model.precision_at_10"] for run in runs]
    assert of_default[0] == of_default[1]
    assert 0 < min(of_default)
    assert {one["against"] for one in content["comparisons"]} >= {"ease", "popularity", "default"}
    (same,) = [
        one
        for one in content["comparisons"]
        if (one["default"], one["against"], one["metric"]) == ("same", "default", "precision_at_10")
    ]
    assert (same["difference"], same["verdict"]) == (0.0, "not separate")
    assert [one["log"] for one in content["skipped"]] == ["ml"]
    made = {one["who"]: one["metrics"] for one in content["baselines"] if one["draw"] == 3}
    assert 0 < made["blend"]["eval.blend.precision_at_10"] < 1

    times = modification_times(output / "trials")
    assert main(arguments) == 0
    assert "3 trials, 3 of them finished already" in capfd.readouterr().out
    assert modification_times(output / "trials") == times
    assert (output / "study.md").read_text() == report


def modification_times(folder: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder)}
