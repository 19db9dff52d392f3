"""Runs a compiled pipeline as Vertex AI does, but here: each node's command in a process.

The first node's process is started by its command. The others' are forks of one that has imported
TFX's entry point, which takes 15 seconds: with the same arguments, environment and folder.

What the service does is written here after its documentation and TFX's entry point, which reads
what the service gives it: parameters and artifacts are put together from the specification and
from what earlier nodes wrote, `{{$}}` becomes that as JSON, resolvers ask the artifacts there are.
Nothing is cached.
"""

import concurrent.futures
import dataclasses
import os
import re
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as spec_pb2

from tests.e2e.forked_commands import Finished, ForkedCommands

PLACEHOLDER = "{{$}}"
_SECONDS_OF_A_NODE = 900  # some ten on a quiet machine


@dataclasses.dataclass
class Node:
    """The result of one task.

    Attributes:
      outputs: Artifacts by key, as `RuntimeArtifact` in JSON.
      status: Exit status of the node's process; None: it has no container.
      log: Output of the process.
    """

    outputs: dict[str, list[dict[str, Any]]]
    status: int | None = None
    log: str = ""


class CompiledPipeline:
    """A specification, parsed from the content of its file, and one run of it.

    Args:
      job: `PipelineJob` as JSON.
      environment: Variables of the containers.
      working_dir: Empty folder in which the processes run.
      log_dir: Folder for the output of forked processes while they run.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        environment: Mapping[str, str],
        working_dir: Path,
        log_dir: Path,
    ):
        parsed = json_format.ParseDict(job, spec_pb2.PipelineJob())
        self.spec = json_format.Parse(
            json_format.MessageToJson(parsed.pipeline_spec), spec_pb2.PipelineSpec()
        )
        self.deployment = json_format.Parse(
            json_format.MessageToJson(self.spec.deployment_spec),
            spec_pb2.PipelineDeploymentConfig(),
        )
        self.root = parsed.runtime_config.gcs_output_directory
        self.tasks = dict(self.spec.root.dag.tasks)
        self.nodes: dict[str, Node] = {}
        # Artifacts in the order of their creation, for the resolvers.
        self.artifacts: list[dict[str, Any]] = []
        self._environment = dict(environment)
        self._working_dir = working_dir
        self._log_dir = log_dir
        self._lock = threading.Lock()
        self._is_first = True
        self._forks: ForkedCommands | None = None

    def run(self, num_at_once: int) -> None:
        """Runs every task after those that it needs, some at the same time."""
        try:
            self._run(num_at_once)
        finally:
            if self._forks is not None:
                self._forks.close()

    def _run(self, num_at_once: int) -> None:
        waiting, running = set(self.tasks), {}
        with concurrent.futures.ThreadPoolExecutor(num_at_once) as pool:
            while waiting or running:
                ready = sorted(name for name in waiting if self._needs(name) <= set(self.nodes))
                assert ready or running, f"a cycle: {sorted(waiting)}"
                for name in ready:
                    waiting.remove(name)
                    running[pool.submit(self._run_task, name)] = name
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    name = running.pop(future)
                    node = future.result()
                    assert not node.status, f"{name} ended with {node.status}:\n{node.log[-6000:]}"
                    self.nodes[name] = node

    def executor(self, name: str) -> Any:
        """Returns the `ExecutorSpec` of a task."""
        component = self.spec.components[self.tasks[name].component_ref.name]
        return self.deployment.executors[component.executor_label]

    def resolve(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """Returns what a resolver finds among the present artifacts: the newest, or nothing."""
        inputs = self._inputs(name)
        found = {}
        for key, query in self.executor(name).resolver.output_artifact_queries.items():
            if any(not artifacts for artifacts in inputs.values()):
                found[key] = []
                continue
            matching = [a for a in self.artifacts if _matches(query.filter, a, inputs)]
            found[key] = matching[-1:]
        return found

    def _needs(self, name: str) -> set[str]:
        task = self.tasks[name]
        inputs = task.inputs.artifacts.values()
        return {i.task_output_artifact.producer_task for i in inputs} | set(task.dependent_tasks)

    def _run_task(self, name: str) -> Node:
        executor = self.executor(name)
        kind = executor.WhichOneof("spec")
        if kind == "resolver":
            return Node(self.resolve(name))
        assert kind == "container", f"{name}: {kind}"
        return self._run_container(name, executor.container)

    def _inputs(self, name: str) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for key, source in self.tasks[name].inputs.artifacts.items():
            output = source.task_output_artifact
            found[key] = self.nodes[output.producer_task].outputs[output.output_artifact_key]
        return found

    def _run_container(self, name: str, container: Any) -> Node:
        component = self.spec.components[self.tasks[name].component_ref.name]
        folder = f"{self.root}/{name}_1"
        outputs = {}
        for key, output in component.output_definitions.artifacts.items():
            uri = f"{folder}/{key}"
            os.makedirs(uri)  # an object store has no folders to make
            outputs[key] = {
                "name": f"projects/1/locations/x/metadataStores/default/artifacts/{name}-{key}",
                "uri": uri,
                "type": json_format.MessageToDict(output.artifact_type),
                "metadata": json_format.MessageToDict(output.metadata),
            }
        output_file = f"{folder}/executor_output.json"
        parameters = self.tasks[name].inputs.parameters
        executor_input = {
            "inputs": {
                "parameterValues": {
                    key: json_format.MessageToDict(value.runtime_value.constant)
                    for key, value in parameters.items()
                },
                "artifacts": {k: {"artifacts": v} for k, v in self._inputs(name).items()},
            },
            "outputs": {
                "artifacts": {key: {"artifacts": [value]} for key, value in outputs.items()},
                "outputFile": output_file,
            },
        }
        text = json_format.MessageToJson(
            json_format.ParseDict(executor_input, spec_pb2.ExecutorInput()), indent=None
        )
        command = [
            part.replace(PLACEHOLDER, text) for part in (*container.command, *container.args)
        ]
        finished = self._run_command(command)
        if finished.returncode:
            return Node({}, finished.returncode, finished.stdout)
        written = json_format.Parse(Path(output_file).read_text(), spec_pb2.ExecutorOutput())
        for key, artifacts in written.artifacts.items():
            (artifact,) = artifacts.artifacts
            outputs[key]["uri"] = artifact.uri
            outputs[key]["metadata"] = json_format.MessageToDict(artifact.metadata)
        with self._lock:
            self.artifacts += outputs.values()
        return Node({k: [v] for k, v in outputs.items()}, 0, finished.stdout)

    def _run_command(self, command: list[str]) -> Finished:
        assert command[:2] == ["python", "-m"], command
        with self._lock:
            is_first, self._is_first = self._is_first, False
            if not is_first and self._forks is None:
                self._forks = ForkedCommands(
                    command[2], self._environment, self._working_dir, self._log_dir
                )
        if not is_first:
            return self._forks.run(command[2:], _SECONDS_OF_A_NODE)
        ended = subprocess.run(
            command,
            env=self._environment,
            cwd=self._working_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS_OF_A_NODE,
        )
        return Finished(ended.returncode, ended.stdout)


def schema_title(artifact: Mapping[str, Any]) -> str:
    """Returns the title of an artifact's schema, such as `tfx.Model`."""
    return yaml.safe_load(artifact["type"]["instanceSchema"])["title"]


def _matches(query: str, artifact: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Returns whether an artifact matches a query of TFX's resolvers."""
    for condition in query.split(" AND "):
        key, _, value = condition.partition("=")
        value = value.strip('"')
        of_input = re.fullmatch(
            r"\{\{\$\.inputs\.artifacts\['(\w+)'\]\.metadata\['(\w+)'\]\}\}", value
        )
        if of_input:
            name, property_name = of_input.groups()
            value = inputs[name][0]["metadata"][property_name]
        if key == "schema_title":
            is_met = schema_title(artifact) == value
        elif key == "state":
            is_met = value == "LIVE"
        elif key == "name":
            is_met = artifact["name"] == value
        else:
            prefix, property_name, kind = key.split(".")
            assert (prefix, kind) == ("metadata", "number_value"), condition
            is_met = artifact["metadata"].get(property_name) == float(value)
        if not is_met:
            return False
    return True
