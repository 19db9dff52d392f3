"""Runs a pipeline on this machine, node by node, and reports what each node did.

TFX's own `LocalDagRunner` logs hundreds of lines, and reports neither which nodes were cached nor
where the outputs are; this runner uses the same launcher and reports both.
"""

import dataclasses
import datetime
import itertools
import time
from collections.abc import Callable, Sequence

from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import (
    data_types,
    launcher,
    runtime_parameter_utils,
    tfx_runner,
)
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.proto.orchestration import (
    execution_result_pb2,
    local_deployment_config_pb2,
    pipeline_pb2,
)

from tfx_pipeline.artifacts.manifests import ArtifactManifests
from tfx_pipeline.engines.beam_bookkeeping import lighten_bookkeeping
from tfx_pipeline.engines.beam_failure import require_job_server
from trainer.contract.file_system import bring_all_to_disk, is_remote


@dataclasses.dataclass(frozen=True)
class NodeRun:
    """The result of running one node.

    Attributes:
      node: Id of the node.
      seconds: Wall-clock time in seconds.
      is_cached: Whether the outputs come from the cache.
      outputs: Output artifacts, from this run or from the cache.
    """

    node: str
    seconds: float
    is_cached: bool
    outputs: dict[str, list[types.Artifact]]


class ReportingLocalRunner(tfx_runner.IrBasedRunner):
    """Runs nodes in topological order in this process.

    Artifacts that the cache or a resolver returns are first checked against their manifest: a
    damaged one is made anew, or an earlier one is taken.
    """

    def __init__(
        self,
        on_start: Callable[[str], None],
        on_end: Callable[[NodeRun], None],
        on_damage: Callable[[str], None] = lambda line: None,
    ):
        """Initializes the runner with the functions that it reports to.

        Args:
          on_start: Function called with a node's id before it runs.
          on_end: Function called with the result of each node.
          on_damage: Function called with a line for each damaged artifact.
        """
        self._on_start = on_start
        self._on_end = on_end
        self._on_damage = on_damage

    def run_with_ir(
        self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None
    ) -> list[NodeRun]:
        """Runs a compiled pipeline.

        Args:
          pipeline: Intermediate representation of the pipeline.
          run_options: Not supported; the cache replaces partial runs.

        Returns:
          The result of each node.
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
        """Runs the nodes as one TFX run, in which no node is launched twice.

        Args:
          template: Intermediate representation, without the run's id.
          runs: Results of nodes in earlier tries; results of this one are added.
          begun: Start times of nodes in earlier tries; those of this one are added.
          manifests: Manifests of the whole run.

        Returns:
          Whether all nodes are done; False: a damaged artifact was forgotten, and another try will
          take the results so far from the cache.
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
    def _launch(
        pipeline: pipeline_pb2.Pipeline,
        node: pipeline_pb2.Pipeline.PipelineOrNode,
        deployment: local_deployment_config_pb2.LocalDeploymentConfig,
        connection: metadata_store_pb2.ConnectionConfig,
        manifests: ArtifactManifests,
    ) -> "_ObservedLauncher":
        """Runs a node, or finds its cached outputs; returns the launcher, which knows both."""
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
        # The result of a cached node names outputs that were never written; the metadata has the
        # right ones.
        with metadata.Metadata(connection) as handle:
            component_launcher.outputs = execution_lib.get_output_artifacts(
                handle, info.execution_id
            )
        return component_launcher


class _ObservedLauncher(launcher.Launcher):
    """A launcher that records whether its executor ran, and first checks its engine."""

    has_executed = False
    pipeline_args: Sequence[str] = ()
    outputs: dict[str, list[types.Artifact]] = {}
    manifests = ArtifactManifests()

    @property
    def is_system_node(self) -> bool:
        """Whether the node is a resolver, which is never cached."""
        return self._system_node_handler is not None

    def _run_executor(
        self, execution_info: data_types.ExecutionInfo
    ) -> execution_result_pb2.ExecutorOutput:
        self.has_executed = True
        require_job_server(self.pipeline_args)
        output = super()._run_executor(execution_info)
        # Written before TFX publishes the outputs, so that every cached output has a manifest.
        self.manifests.write(execution_info.output_dict)
        # Next, the store declares the outputs complete; that must not reach the disk before them.
        for artifact in itertools.chain.from_iterable(execution_info.output_dict.values()):
            if not is_remote(artifact.uri):
                bring_all_to_disk(artifact.uri)
        return output
