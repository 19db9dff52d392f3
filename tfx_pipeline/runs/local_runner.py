"""Runs a pipeline on this machine, node by node, and tells what each node did.

TFX's own `LocalDagRunner` logs hundreds of lines and says at the end neither what was answered from
the cache nor where the outputs are; this runner uses the same launcher and reports both.
"""

import dataclasses
import datetime
import itertools
import time
from collections.abc import Callable, Sequence

from tfx import types
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils, tfx_runner
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.proto.orchestration import pipeline_pb2

from tfx_pipeline.artifacts.manifests import ArtifactManifests
from tfx_pipeline.engines.beam_bookkeeping import lighten_bookkeeping
from tfx_pipeline.engines.beam_failure import require_job_server
from trainer.contract.file_system import bring_all_to_disk, is_remote


@dataclasses.dataclass(frozen=True)
class NodeRun:
    """What one node did.

    Attributes:
      node: Its id.
      seconds: Wall-clock time.
      is_cached: Whether it was answered from the cache.
      outputs: Its output artifacts, from this run or from the cache.
    """

    node: str
    seconds: float
    is_cached: bool
    outputs: dict[str, list[types.Artifact]]


class ReportingLocalRunner(tfx_runner.IrBasedRunner):
    """Runs nodes in topological order in this process.

    What the cache or a resolver answers is compared with its manifest first: what is damaged is
    made anew, or an earlier one taken.
    """

    def __init__(
        self,
        on_start: Callable[[str], None],
        on_end: Callable[[NodeRun], None],
        on_damage: Callable[[str], None] = lambda line: None,
    ):
        """Initializes the runner.

        Args:
          on_start: Called with a node's id before it runs.
          on_end: Called with what it did.
          on_damage: Called with a line for each artifact that is damaged.
        """
        self._on_start = on_start
        self._on_end = on_end
        self._on_damage = on_damage

    def run_with_ir(
        self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None
    ) -> list[NodeRun]:
        """Runs a compiled pipeline.

        Args:
          pipeline: The intermediate representation.
          run_options: Not supported; the cache does the work of partial runs.

        Returns:
          What each node did.
        """
        del run_options
        lighten_bookkeeping()
        runs, begun, manifests = dict[str, NodeRun](), dict[str, float](), ArtifactManifests()
        while not self._run_nodes(pipeline, runs, begun, manifests):
            pass
        return list(runs.values())

    def _run_nodes(
        self,
        template: pipeline_pb2.Pipeline,
        runs: dict[str, NodeRun],
        begun: dict[str, float],
        manifests: ArtifactManifests,
    ) -> bool:
        """Runs the nodes as one run of TFX's, which launches no node twice.

        Args:
          template: The intermediate representation, without the run's id.
          runs: What nodes did in earlier tries; those that follow are added.
          begun: When nodes were begun; likewise.
          manifests: Manifests of the whole run.

        Returns:
          Whether all is done; False: something was damaged and is forgotten, and another try will
          find what was done till then in the cache.
        """
        pipeline = pipeline_pb2.Pipeline()
        pipeline.CopyFrom(template)
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline,
            {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()},
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        connection = getattr(
            deployment.metadata_connection_config,
            deployment.metadata_connection_config.WhichOneof("connection_config"),
        )
        for node in pipeline.nodes:
            node_id = node.pipeline_node.node_info.id
            if node_id not in begun:
                self._on_start(node_id)
                begun[node_id] = time.perf_counter()
            launched = self._launch(pipeline, node, deployment, connection, manifests)
            if not launched.has_executed:
                with metadata.Metadata(connection) as handle:
                    damage = manifests.forget_damaged(handle, launched.outputs)
                if damage is not None:
                    self._on_damage(damage)
                    return False
            run = NodeRun(
                node_id,
                time.perf_counter() - begun[node_id],
                not (launched.has_executed or launched.is_system_node),
                launched.outputs,
            )
            if node_id not in runs:
                self._on_end(run)
                runs[node_id] = run
        return True

    @staticmethod
    def _launch(pipeline, node, deployment, connection, manifests) -> "_ObservedLauncher":
        """Runs a node, or finds its answer; the launcher knows which, and the outputs."""
        node_id = node.pipeline_node.node_info.id
        executor_spec = runner_utils.extract_executor_spec(deployment, node_id)
        component_launcher = _ObservedLauncher(
            pipeline_node=node.pipeline_node,
            mlmd_connection=metadata.Metadata(connection),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=executor_spec,
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
        )
        component_launcher.pipeline_args = getattr(executor_spec, "beam_pipeline_args", ())
        component_launcher.manifests = manifests
        info = component_launcher.launch()
        # What a cached node returns names outputs that were never written; the metadata knows.
        with metadata.Metadata(connection) as handle:
            component_launcher.outputs = execution_lib.get_output_artifacts(
                handle, info.execution_id
            )
        return component_launcher


class _ObservedLauncher(launcher.Launcher):
    """A launcher that remembers whether its executor ran, and runs none without its engine."""

    has_executed = False
    pipeline_args: Sequence[str] = ()
    outputs: dict[str, list[types.Artifact]] = {}
    manifests = ArtifactManifests()

    @property
    def is_system_node(self) -> bool:
        """Whether the node is a resolver, which is never cached."""
        return self._system_node_handler is not None

    def _run_executor(self, execution_info):
        self.has_executed = True
        require_job_server(self.pipeline_args)
        output = super()._run_executor(execution_info)
        # Before TFX publishes them: what the cache answers has a manifest.
        self.manifests.write(execution_info.output_dict)
        # The store calls the outputs whole next, and must not be on the disk before them.
        for artifact in itertools.chain.from_iterable(execution_info.output_dict.values()):
            if not is_remote(artifact.uri):
                bring_all_to_disk(artifact.uri)
        return output
