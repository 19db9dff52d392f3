"""A small synthetic log and its configuration, for whole runs in about a minute."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tfx_pipeline.cli import main
from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig

SMALL_LOG = DemoConfig(
    num_users=300,
    num_tags=120,
    num_items=600,
    num_categories=6,
    events_per_user=40,
    interests_per_user=3,
    seed=3,
)

# A small model, for runs that do not test the tower: tracing and saving take most of the time.
SMALLEST_GRAPH = {"interaction": "bag"}


@dataclasses.dataclass(frozen=True)
class SmallProject:
    """A folder with tables, a configuration and an output folder."""

    folder: Path

    @property
    def tables(self) -> Path:
        return self.folder / "tables"

    @property
    def config_path(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "run"

    @property
    def base_path(self) -> Path:
        return self.output / "serving"

    def configuration(self) -> dict:
        return yaml.safe_load(self.config_path.read_text(encoding="utf-8"))

    def write_configuration(self, configuration: dict) -> None:
        self.config_path.write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def tagtower(self, *arguments: str) -> subprocess.Popen:
        """Starts the command in a separate process."""
        return subprocess.Popen(
            [sys.executable, "-m", "tfx_pipeline.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, str, str]:
        """Runs `tagtower run` in a separate process; returns exit status and both outputs."""
        process = self.tagtower("run", "--config", str(self.config_path))
        out, err = process.communicate()
        return process.returncode, out, err

    def run_here(self, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
        """Runs `tagtower run` in this process, which imports TFX (20 s) only once."""
        capfd.readouterr()
        status = main(["run", "--config", str(self.config_path)])
        out, err = capfd.readouterr()
        return status, out, err


def make_small_project(folder: Path) -> SmallProject:
    """Writes the tables and the configuration of a small project."""
    project = SmallProject(folder)
    prepare_demo(str(project.tables), SMALL_LOG)
    project.write_configuration(
        {
            "name": "small",
            "output": str(project.output),
            "data": {
                "interactions": str(project.tables / "interactions"),
                "items": str(project.tables / "items.parquet"),
                "users": str(project.tables / "users.parquet"),
                "planted": str(project.tables / "planted.jsonl"),
            },
            "features": {
                "profile": [{"name": "segment"}, {"name": "age_band"}],
                "domains": [
                    {"name": "clicked_tags", "max_values": 120},
                    {"name": "skipped_tags", "events": "skipped", "max_values": 120},
                ],
            },
            "examples": {"snapshots_per_user": 3, "num_shards": 2},
            "model": {"embedding_dim": 16, "hidden_dim": 32, "output_dim": 16},
            "training": {"max_epochs": 8, "batch_size": 32, "budget_steps": 0, "min_steps": 0},
            # The tests check that gates decide, not how good a toy model is.
            "gate": {
                "min_relative_gain": -0.9,
                "min_relative_novel_gain": -0.9,
                "min_click_gauc": 0.0,
                "min_relative_distinct": 0.0,
                "min_relative_coverage": 0.0,
                "too_few_users": "warn",
                # The model of a changed run is another one, better or worse by chance.
                "max_relative_loss": 0.9,
            },
            "index": {"kind": "scann", "k": 20},
        }
    )
    return project


def node_states(output: str) -> dict[str, str]:
    """Returns, by node, `cached` or its seconds, as `tagtower run` printed them."""
    states = {}
    for line in output.splitlines():
        name, found, state = line.strip().partition(" done: ")
        if found:
            states[name] = state
    return states
