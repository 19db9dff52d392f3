"""The life of a small project: runs that are killed, cached, refused, pushed, and rolled back.

`pipeline_test.py` asks for the steps. Each follows another: an early step is never taken late.
"""

import contextlib
import copy
import dataclasses
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from serving.client import TagClient, TagExplanation, TagProfile
from tests.e2e.small_log import SmallProject
from tests.e2e.steps import step
from tfx_pipeline.cli import main
from tfx_pipeline.runs.local_server import LocalServer, local_server

NEW_TAG = "brand new"
# Lines at which the first two runs are killed: nothing is there yet; only the gates are missing.
EARLY, LATE = "] ExampleGen ...", "] Evaluator ..."


@dataclasses.dataclass(frozen=True)
class Ran:
    """What `tagtower run` printed, and what lay in the output folder after it.

    Attributes:
      status: Exit status of the command.
      out: Output of the command.
      err: Error output of the command.
      report: `report.json`; None: there is none.
      training: Training report of the latest model; None: the run did not end with a push.
      versions: Numbers of the pushed versions, in order; None: there is no folder of them.
      exact_versions: Numbers of the exact exports, in order; None: there is no folder of them.
      checkpoints: Paths below the folder of checkpoints; None: there is no such folder.
      items: Rows of `items.jsonl`.
    """

    status: int
    out: str
    err: str
    report: dict[str, Any] | None
    training: dict[str, Any] | None
    versions: list[int] | None
    exact_versions: list[int] | None
    checkpoints: list[Path] | None
    items: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Reindexed:
    """What a reindexing changed.

    Attributes:
      new: Tag that the reindexing added.
      retired: Tag that it retired.
      risen: Tag whose weight it raised.
      before: Profiles of all users before it.
      after: Profiles of the same users after it.
      explained: Explanations of the new and of the retired tag, after it.
      versions: Numbers of the pushed versions after it, in order.
      exact_versions: Numbers of the exact exports after it, in order.
    """

    new: str
    retired: str
    risen: str
    before: tuple[TagProfile, ...]
    after: tuple[TagProfile, ...]
    explained: tuple[TagExplanation, ...]
    versions: list[int]
    exact_versions: list[int]


class PipelineLife:
    """A project, a server of its versions, and the steps that they take.

    Attributes:
      project: Project whose configuration and tables the steps change.
      server: Server that runs since the step `served`; None: before that.
      capfd: Captured output of the test that runs.
    """

    def __init__(self, project: SmallProject, resources: contextlib.ExitStack):
        """Initializes a life without any step taken.

        Args:
          project: Project without any run.
          resources: Holder of the server, which ends it.
        """
        self.project = project
        self.server: LocalServer | None = None
        self.capfd: pytest.CaptureFixture[str] | None = None
        self._resources = resources
        self._is_reindexed = False

    def tagtower(self, *arguments: str) -> tuple[int, str, str]:
        """Runs a command in this process; returns exit status, output and error output."""
        self.capfd.readouterr()
        status = main([*arguments, "--config", str(self.project.config_path)])
        return status, *self.capfd.readouterr()

    def run(self) -> Ran:
        """Runs `tagtower run` in this process."""
        return self._ran(*self.tagtower("run"))

    def settled(self) -> int:
        """Returns the version of the last training, once it is the newest one.

        A reindexed version, if there is one, is rolled back.
        """
        version = self.unchanged().versions[-1]
        if self._is_reindexed:
            self.rolled_back()
        return version

    # What is killed, cached and pushed.

    @step
    def prepared(self) -> list[dict[str, Any]]:
        """Reads the interactions before anything edits them."""
        path = self.project.tables / "interactions"
        return pq.read_table(path, columns=["user_id", "item_id", "clicked"]).to_pylist()

    @step
    def killed(self) -> dict[str, Ran]:
        """Kills two runs; returns them by the line at which they were killed."""
        self.prepared()
        return {line: self._run_killed_at(line) for line in (EARLY, LATE)}

    @step
    def first(self) -> Ran:
        """Runs after the kills: the first run that ends."""
        self.killed()
        return self.run()

    @step
    def second(self) -> Ran:
        """Runs again with nothing changed."""
        self.first()
        return self.run()

    @step
    def deleted(self) -> Ran:
        """Runs after the pushed version was deleted."""
        self.second()
        shutil.rmtree(self.project.base_path)
        return self.run()

    @step
    def retrained(self) -> Ran:
        """Runs with another learning rate, which stays."""
        self.deleted()
        configuration = self.project.configuration()
        configuration["training"]["learning_rate"] = 0.002
        self.project.write_configuration(configuration)
        return self.run()

    @step
    def gated(self) -> Ran:
        """Runs with a gate that no model passes."""
        self.retrained()
        with self._configured("gate", min_relative_gain=50.0):
            return self.run()

    @step
    def edited(self) -> Ran:
        """Edits the tables, and kills the run after one epoch of its training."""
        self.gated()
        path = self._interactions_path()
        table = pq.read_table(path)
        pq.write_table(table.slice(0, table.num_rows - 5), path)
        self._rename_a_tag()
        return self._run_killed_at("(epoch 1.0)")

    @step
    def resumed(self) -> Ran:
        """Runs after the kill: the last run that trains and pushes."""
        self.edited()
        return self.run()

    @step
    def unchanged(self) -> Ran:
        """Runs after the last training, with nothing changed."""
        self.resumed()
        return self.run()

    # What is refused, and leaves everything as it was.

    @step
    def other_architecture(self) -> Ran:
        """Runs with a hidden layer of another size, which cannot start from the last model."""
        self.unchanged()
        hidden_dim = self.project.configuration()["model"]["hidden_dim"]
        with self._configured("model", hidden_dim=hidden_dim + 1):
            return self.run()

    @step
    def bad_rows(self) -> tuple[Ran, int, list[dict[str, Any]]]:
        """Runs with bad rows in a tenth of the interactions.

        Returns:
          The run, the number of the bad rows, and the rejected rows that it wrote.
        """
        self.unchanged()
        table = pq.read_table(self._interactions_path())
        clicked = table.column("clicked").to_pylist()
        num_bad = len(clicked) // 10
        clicked[:num_bad] = [7] * num_bad
        place = table.schema.get_field_index("clicked")
        with self._interactions(table.set_column(place, "clicked", pa.array(clicked))):
            ran = self.run()
        paths = (self.project.output / "rejected").glob("*.jsonl")
        return ran, num_bad, [row for path in paths for row in json_lines(path)]

    @step
    def clicks_alone(self) -> Ran:
        """Runs on a log without skips."""
        self.unchanged()
        table = pq.read_table(self._interactions_path())
        with self._interactions(table.filter(pc.equal(table.column("clicked"), 1))):
            return self.run()

    # What is served, reindexed and rolled back.

    @step
    def served(self) -> str:
        """Starts a server, which runs until the last test; returns its address."""
        self.unchanged()
        log = self.project.folder / "server.log"
        self.server = self._resources.enter_context(
            local_server(self.project.base_path, log, has_rest=False)
        )
        return self.server.target

    @step
    def reindexed(self) -> Reindexed:
        """Adds a tag, retires one and raises one, and waits until the server has the version."""
        server = self.served()
        new, retired, risen = self._tags_to_reindex()
        users = [{k: v for k, v in u.items() if k != "user_id"} for u in instances(self.project)]
        with TagClient(server, timeout_s=60) as client:
            before = client.retrieve(users).profiles
        path = self.project.folder / "tags.csv"
        path.write_text(f"tag,weight,retired\n{new},20,\n{retired},,true\n{risen},1000,\n")

        self._is_reindexed = True
        status, out, err = self.tagtower("reindex", "--tags", str(path))

        assert status == 0, out + err
        versions = numbers(self.project.base_path)
        wait_for_version(server, versions[-1])
        with TagClient(server, timeout_s=60) as client:
            after = client.retrieve(users).profiles
            explained = client.explain([{}, {}], [new, retired]).explanations
        exact_versions = numbers(self.project.output / "serving_exact")
        return Reindexed(new, retired, risen, before, after, explained, versions, exact_versions)

    @step
    def listed(self) -> tuple[int, str]:
        """Lists the versions after the reindexing; returns exit status and output."""
        self.reindexed()
        status, out, _ = self.tagtower("versions", "--server", self.served())
        return status, out

    @step
    def cached_after_reindexing(self) -> Ran:
        """Runs after the reindexing, with nothing changed."""
        self.listed()
        return self.run()

    @step
    def rolled_back(self) -> tuple[Ran, list[int]]:
        """Rolls back to the version before the reindexing and to the one before it, and runs.

        Then goes to the reindexed version and back to the one before it, which serves at the end.

        Returns:
          The run, and the numbers of the versions at the end.
        """
        *_, before, own, reindexed = self.cached_after_reindexing().versions
        self._roll_back(own)
        self._roll_back(before, "--to", str(before))
        ran = self.run()
        self._roll_back(reindexed, "--to", str(reindexed))
        self._roll_back(own, "--to", str(own))
        return ran, numbers(self.project.base_path)

    def _ran(self, status: int, out: str, err: str) -> Ran:
        output = self.project.output
        report, items, checkpoints = (
            output / name for name in ("report.json", "items.jsonl", "checkpoints")
        )
        return Ran(
            status,
            out,
            err,
            json.loads(report.read_text(encoding="utf-8")) if report.exists() else None,
            self._training() if status == 0 else None,
            numbers(self.project.base_path),
            numbers(output / "serving_exact"),
            [path.relative_to(checkpoints) for path in checkpoints.rglob("*")]
            if checkpoints.exists()
            else None,
            json_lines(items) if items.exists() else [],
        )

    def _training(self) -> dict[str, Any]:
        """Returns the training report of the latest model."""
        folders = (self.project.output / "artifacts" / "Trainer" / "model").iterdir()
        models = (path for path in folders if path.is_dir())  # manifests lie beside them
        latest = max(models, key=lambda path: int(path.name))
        return json.loads((latest / "Format-Serving" / "training.json").read_text(encoding="utf-8"))

    def _run_killed_at(self, moment: str) -> Ran:
        """Runs in a process that is killed once it prints a line; returns its output until then."""
        process = self.project.tagtower("run", "--config", str(self.project.config_path))
        lines = []
        for line in process.stdout:
            lines.append(line)
            if moment in line:
                break
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()

        assert process.returncode == -signal.SIGKILL, err
        return self._ran(process.returncode, "".join(lines), err)

    @contextlib.contextmanager
    def _configured(self, section: str, **values: Any) -> Iterator[None]:
        """Changes values of the configuration for a while."""
        original = self.project.configuration()
        changed = copy.deepcopy(original)
        changed[section] |= values
        self.project.write_configuration(changed)
        try:
            yield
        finally:
            self.project.write_configuration(original)

    @contextlib.contextmanager
    def _interactions(self, table: pa.Table) -> Iterator[None]:
        """Replaces the first file of interactions for a while."""
        path = self._interactions_path()
        good = path.read_bytes()
        pq.write_table(table, path)
        try:
            yield
        finally:
            path.write_bytes(good)

    def _interactions_path(self) -> Path:
        return next((self.project.tables / "interactions").glob("*.parquet"))

    def _rename_a_tag(self) -> None:
        """Renames the most frequent tag in the items table."""
        path = self.project.tables / "items.parquet"
        table = pq.read_table(path)
        lists = table.column("tags").to_pylist()
        tags = [tag for tags in lists for tag in tags]
        old = max(sorted(set(tags)), key=tags.count)
        renamed = [[NEW_TAG if tag == old else tag for tag in tags] for tags in lists]
        place = table.schema.get_field_index("tags")
        field = table.schema.field(place)
        pq.write_table(table.set_column(place, field, pa.array(renamed, field.type)), path)

    def _tags_to_reindex(self) -> tuple[str, str, str]:
        """Returns a new tag of other tags' words, one to retire, and one to raise."""
        path = self.project.tables / "items.parquet"
        rows = pq.read_table(path, columns=["tags"]).to_pylist()
        counts = Counter(tag for row in rows for tag in row["tags"])
        ordered = sorted(counts, key=lambda tag: (-counts[tag], tag))
        new = f"{ordered[1].split()[0]} {ordered[2].split()[-1]} novelty"
        return new, ordered[0], ordered[len(ordered) // 2]

    def _roll_back(self, version: int, *flags: str) -> None:
        """Runs `tagtower rollback`, and waits until the server answers with a version."""
        status, out, err = self.tagtower("rollback", *flags)
        assert status == 0, out + err
        wait_for_version(self.served(), version)


def numbers(folder: Path) -> list[int] | None:
    """Returns the numbers of the versions in a folder, in order; None: there is no folder."""
    if not folder.exists():
        return None
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def instances(project: SmallProject) -> list[dict[str, Any]]:
    """Returns the instances of all users that the last run wrote."""
    paths = sorted((project.output / "instances").glob("*.jsonl"))
    return [instance for path in paths for instance in json_lines(path)]


def wait_for_version(server: str, version: int) -> None:
    """Waits until a server answers with a version."""
    deadline = time.monotonic() + 1200
    with TagClient(server, timeout_s=60) as client:
        while client.retrieve([{}]).model_version != version:
            assert time.monotonic() < deadline, f"version {version} is not served"
            time.sleep(0.1)
