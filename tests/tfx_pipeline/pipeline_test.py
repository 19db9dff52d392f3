"""The wiring of nodes that a configuration asks for."""

import dataclasses

from tests.e2e.small_log import make_small_project
from tfx_pipeline.config import BatchConfig, load_config
from tfx_pipeline.pipeline import create_pipeline


def test_bulk_inferrer_is_there_on_demand_and_takes_what_is_pushed(tmp_path):
    config = load_config(str(make_small_project(tmp_path).config_path))
    asked = dataclasses.replace(config, batch=BatchConfig(bulk_inferrer=True))

    without = {node.id: node for node in create_pipeline(config).components}
    nodes = {node.id: node for node in create_pipeline(asked).components}

    assert set(nodes) - set(without) == {"BulkInferrer"}
    inputs, pushed = nodes["BulkInferrer"].inputs, nodes["Pusher"].inputs
    assert inputs["model"] == pushed["servable"]
    assert inputs["model_blessing"] == pushed["model_blessing"]
    assert inputs["examples"].producer_component_id == "ExampleGen"
    assert nodes["Pusher"] in nodes["BulkInferrer"].upstream_nodes
    # The pipeline's own engine, and ScaNN's op library in each of its workers.
    args = nodes["BulkInferrer"].executor_spec.beam_pipeline_args
    assert args == [*config.beam.pipeline_args(), "--beam_plugin=serving.scann_index"]
