"""The specification for Kubeflow; `tests/e2e/compile_test.py` runs it."""

import dataclasses
import json

import pytest

from tests.e2e.small_log import make_small_project
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import PipelineConfig, load_config
from tfx_pipeline.config.serving import BatchConfig
from tfx_pipeline.config.vertex import VertexConfig
from tfx_pipeline.runs.vertex import compile_pipeline

IMAGE = "registry.example/tagtower:1"
BUCKET = "gs://some-bucket/tags"


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> PipelineConfig:
    """Returns a configuration with local tables, which are read, and all else in a bucket."""
    path = make_small_project(tmp_path_factory.mktemp("small")).config_path
    loaded = load_config(str(path), output=BUCKET)
    return dataclasses.replace(loaded, vertex=VertexConfig(image=IMAGE))


def containers(job: dict) -> dict[str, dict]:
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    return {
        name.removesuffix("_executor"): executor["container"]
        for name, executor in executors.items()
        if "container" in executor
    }


def parameters(job: dict, task: str) -> dict:
    given = job["pipelineSpec"]["root"]["dag"]["tasks"][task]["inputs"]["parameters"]
    return {name: value["runtimeValue"]["constant"] for name, value in given.items()}


def test_every_path_of_a_run_in_a_bucket_stays_in_it(config):
    job = compile_pipeline(config)

    assert job["runtimeConfig"]["gcsOutputDirectory"] == f"{BUCKET}/artifacts"
    assert parameters(job, "ExampleGen")["rejected_dir"] == f"{BUCKET}/rejected"
    pusher = parameters(job, "Pusher")
    assert pusher["base_path"] == f"{BUCKET}/serving"
    assert pusher["exact_base_path"] == f"{BUCKET}/serving_exact"
    custom_config = json.loads(parameters(job, "Trainer")["custom_config"])
    assert custom_config["checkpoints"] == f"{BUCKET}/checkpoints"
    assert {container["image"] for container in containers(job).values()} == {IMAGE}


def test_warm_start_begins_with_what_a_stock_resolver_finds(config):
    training = dataclasses.replace(config.training, warm_start=True)

    job = compile_pipeline(dataclasses.replace(config, training=training))

    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    source = tasks["Trainer"]["inputs"]["artifacts"]["base_model"]["taskOutputArtifact"]
    assert source == {"producerTask": "WarmStart-model-resolver", "outputArtifactKey": "model"}
    assert json.loads(parameters(job, "Trainer")["custom_config"])["base_path"] == (
        f"{BUCKET}/serving"
    )


def test_trainer_alone_gets_the_machine_that_was_asked_for(config):
    vertex = VertexConfig(
        IMAGE, trainer_cpus=8, trainer_memory_gb=32, accelerator_type="NVIDIA_TESLA_T4"
    )

    job = compile_pipeline(dataclasses.replace(config, vertex=vertex))

    with_resources = {n: c["resources"] for n, c in containers(job).items() if "resources" in c}
    assert with_resources == {
        "Trainer": {
            "cpuLimit": 8.0,
            "memoryLimit": 32.0,
            "accelerator": {"type": "NVIDIA_TESLA_T4", "count": "1"},
        }
    }


def test_bulk_inferrer_runs_where_scanns_ops_are_known(config):
    asked = dataclasses.replace(config, batch=BatchConfig(bulk_inferrer=True))

    args = containers(compile_pipeline(asked))["BulkInferrer"]["args"]

    assert args[1] == "tfx_pipeline.components.bulk_inferrer.NowBulkInferrerExecutor"
    assert args[-1] == "--beam_plugin=serving.index.scann_index"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertex": VertexConfig()}, "`vertex.image` must name the image of the nodes"),
        ({"name": "My_log"}, "`name` must consist of lower case letters, digits and -"),
        ({"output": "build/run"}, "`output` must be a path that every node reaches"),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(config, change, message):
    with pytest.raises(ValueError, match=message):
        compile_pipeline(dataclasses.replace(config, **change))


def test_run_with_a_remote_output_is_one_line_that_says_what_may_be_remote(tmp_path, capsys):
    project = make_small_project(tmp_path)
    command = ["run", "--config", str(project.config_path), "--output", BUCKET]

    assert main(command) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "`output` must be a local folder" in line and "tagtower compile" in line
