"""The wiring of nodes that a configuration asks for."""

import dataclasses
import os

from tests.e2e.small_log import make_small_project
from tests.tfx_pipeline.examples.random_users import item_rows, write_jsonl
from tfx_pipeline.components.drift_validator import statistics_file
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.gate import DistributionThreshold, ValidationConfig
from tfx_pipeline.config.pipeline import PipelineConfig, load_config
from tfx_pipeline.config.serving import BatchConfig
from tfx_pipeline.pipeline import create_pipeline
from tfx_pipeline.pipeline_inputs import find_inputs
from trainer.contract.features import Domain, FeatureSpec


def test_bulk_inferrer_is_there_on_demand_and_takes_what_is_pushed(tmp_path):
    config = load_config(str(make_small_project(tmp_path).config_path))
    asked = dataclasses.replace(config, batch=BatchConfig(bulk_inferrer=True))

    without = {node.id: node for node in create_pipeline(config, find_inputs(config)).components}
    nodes = {node.id: node for node in create_pipeline(asked, find_inputs(asked)).components}

    assert set(nodes) - set(without) == {"BulkInferrer"}
    inputs, pushed = nodes["BulkInferrer"].inputs, nodes["Pusher"].inputs
    assert inputs["model"] == pushed["servable"]
    assert inputs["model_blessing"] == pushed["model_blessing"]
    assert inputs["examples"].producer_component_id == "ExampleGen"
    assert nodes["Pusher"] in nodes["BulkInferrer"].upstream_nodes
    # The pipeline's own engine, and ScaNN's op library in each of its workers.
    args = nodes["BulkInferrer"].executor_spec.beam_pipeline_args
    assert args == [*config.beam.pipeline_args(), "--beam_plugin=serving.index.scann_index"]


def test_drift_is_asked_before_anything_is_transformed_and_knows_its_baseline(tmp_path):
    event = {"user_id": "u", "item_id": "i0", "timestamp": 1_000_000_000, "clicked": 1}
    for day in ("2024-05-01", "2024-05-02"):
        write_jsonl(tmp_path / "log" / f"{day}.jsonl", [event])
    config = PipelineConfig(
        name="log",
        data=DataConfig(
            interactions=str(tmp_path / "log" / "{date}.jsonl"),
            items=write_jsonl(tmp_path / "items.jsonl", item_rows()),
            users=write_jsonl(tmp_path / "users.jsonl", [{"user_id": "u"}]),
            window=WindowConfig(days=2, day="2024-05-02"),
        ),
        features=FeatureSpec(history_window_days=1.0, domains=(Domain("clicked"),)),
        output=str(tmp_path / "run"),
    )
    drift = ValidationConfig(drift={"clicked": DistributionThreshold(l_infinity=0.1)})
    asked = dataclasses.replace(config, validation=drift)

    def nodes(config):
        return {node.id: node for node in create_pipeline(config, find_inputs(config)).components}

    without, first = nodes(config), nodes(asked)

    assert set(first) - set(without) == {"DriftValidator"}
    assert first["DriftValidator"] in first["Transform"].upstream_nodes
    assert first["ExampleValidator"] in first["DriftValidator"].upstream_nodes
    assert without["ExampleValidator"] in without["Transform"].upstream_nodes
    assert first["ExampleGen"].exec_properties["day"] == "2024-05-02"
    # The cache knows which statistics a day is compared with.
    path = statistics_file(str(tmp_path / "run" / "statistics"), "2024-05-01")
    os.makedirs(os.path.dirname(path))
    seen = [first["DriftValidator"].exec_properties["baseline"]]
    for content in (b"one", b"other"):
        with open(path, "wb") as file:
            file.write(content)
        seen.append(nodes(asked)["DriftValidator"].exec_properties["baseline"])
    assert len(set(seen)) == 3
