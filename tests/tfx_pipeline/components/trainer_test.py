"""TowerTrainer keeps the stock Trainer's contract, and adds the summary's file of tags."""

import json
from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx.utils import json_utils, proto_utils

from tfx_pipeline.components.artifacts import LogSummary
from tfx_pipeline.components.trainer import TowerTrainer, TowerTrainerExecutor
from trainer import task


def record(fn_args):
    """A `run_fn` that writes its arguments in place of a model."""
    folder = Path(fn_args.serving_model_dir)
    folder.mkdir(parents=True)
    names = ("train_files", "eval_files", "transform_output", "base_model", "custom_config")
    given = {name: getattr(fn_args, name) for name in names}
    (folder / "given.json").write_text(json.dumps(given))


def artifact(kind, folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    made = kind()
    made.uri = str(folder)
    return made


def run(folder: Path, executor: type[base_executor.BaseExecutor], with_options: bool):
    examples = artifact(standard_artifacts.Examples, folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(["train", "validation"])
    inputs = {
        "examples": [examples],
        "transform_graph": [artifact(standard_artifacts.TransformGraph, folder / "transform")],
    }
    if with_options:
        inputs["summary"] = [artifact(LogSummary, folder / "summary")]
        inputs["base_model"] = [artifact(standard_artifacts.Model, folder / "base")]
    outputs = {
        "model": [artifact(standard_artifacts.Model, folder / "model")],
        "model_run": [artifact(standard_artifacts.ModelRun, folder / "model_run")],
    }
    properties = {
        "run_fn": f"{__name__}.record",
        "train_args": proto_utils.proto_to_json(tfx.proto.TrainArgs(splits=["train"])),
        "eval_args": proto_utils.proto_to_json(tfx.proto.EvalArgs(splits=["validation"])),
        "custom_config": json_utils.dumps({"seed": "7"}),
    }
    executor().Do(inputs, outputs, properties)
    return json.loads((folder / "model" / "Format-Serving" / "given.json").read_text())


def test_run_fn_gets_what_the_stock_trainer_gives_it(tmp_path):
    ours = run(tmp_path / "ours", TowerTrainerExecutor, with_options=False)
    stock = run(tmp_path / "stock", GenericExecutor, with_options=False)

    assert json.dumps(ours).replace("/ours/", "/stock/") == json.dumps(stock)
    assert ours["custom_config"] == {"seed": "7"}
    assert ours["base_model"] is None


def test_run_fn_gets_the_tags_of_the_summary_and_the_model_to_start_from(tmp_path):
    given = run(tmp_path, TowerTrainerExecutor, with_options=True)

    tags_file = str(tmp_path / "summary" / "tags.jsonl")
    assert given["custom_config"] == {"seed": "7", task.TAGS_FILE_KEY: tags_file}
    assert given["base_model"] == str(tmp_path / "base" / "Format-Serving")


def test_log_of_clicks_alone_is_refused_where_no_local_runner_has_done_so(tmp_path):
    summary = tmp_path / "summary" / "counts.json"
    summary.parent.mkdir()
    summary.write_text(json.dumps({"rows.clicks": 12}))
    with pytest.raises(ValueError, match="must have skips .* Received: 12 clicks and no skip"):
        run(tmp_path, TowerTrainerExecutor, with_options=True)


def test_component_is_a_trainer_to_those_who_look_for_its_outputs():
    component = TowerTrainer(
        run_fn="trainer.task.run_fn",
        examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        transform_graph=channel_utils.as_channel([standard_artifacts.TransformGraph()]),
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["validation"]),
        custom_config={"seed": "7"},
    ).with_id("Trainer")

    assert component.outputs["model"].type is standard_artifacts.Model
    assert component.outputs["model_run"].type is standard_artifacts.ModelRun
    assert set(component.inputs) == {"examples", "transform_graph"}
    assert json_utils.loads(component.exec_properties["custom_config"]) == {"seed": "7"}
