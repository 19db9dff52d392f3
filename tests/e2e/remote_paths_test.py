"""Runs everything on a remote file system, TensorFlow's `ram://`, in one process.

`gs://` goes the same ways: through this project's `file_system`, TFX's fileio and Beam's file
systems, none of which sees a local path here but the metadata's.
"""

import json
import os
import uuid

import pytest
from tfx.orchestration import metadata

from serving.batch.batch_predict import BatchPredictConfig, batch_predict
from serving.batch.output import ABOUT_FILE
from serving.batch.servable_caller import ServableCaller
from serving.index import evaluation as index_evaluation
from tests.e2e.small_log import SMALLEST_GRAPH, make_small_project
from tests.ram_file_system import mend_ram  # the import registers `ram://`
from tfx_pipeline.cli import main
from tfx_pipeline.components import tag_index_evaluator
from tfx_pipeline.config.beam import BeamConfig
from tfx_pipeline.config.pipeline import exact_twin, load_config
from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.pipeline import create_pipeline
from tfx_pipeline.pipeline_inputs import find_inputs
from tfx_pipeline.runs.local_runner import ReportingLocalRunner
from tfx_pipeline.versions.pushed_versions import read_versions
from tfx_pipeline.versions.pushing import push, push_sources
from trainer.contract import file_system as fs

pytestmark = pytest.mark.e2e


def evaluate_in_this_process(servable, patterns, output):
    """Evaluates here, because another process would have another `ram://`."""
    arguments = ["--servable", servable, "--output", output]
    for split, pattern in patterns.items():
        arguments += ["--examples", f"{split}={pattern}"]
    index_evaluation.main(arguments)
    with fs.open_file(output) as file:
        return json.load(file)


@pytest.fixture(scope="module")
def root():
    with pytest.MonkeyPatch.context() as patch:
        mend_ram(patch)
        yield f"ram://{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def config(tmp_path_factory, root):
    project = make_small_project(tmp_path_factory.mktemp("tables"))
    fs.copy_folder(str(project.tables), f"{root}/tables")
    configuration = project.configuration()
    configuration["data"] = {
        "interactions": f"{root}/tables/interactions",
        "items": f"{root}/tables/items.parquet",
        "users": f"{root}/tables/*rs.parquet",
    }
    configuration["output"] = f"{root}/run"
    configuration["index"] = {"kind": "exact", "k": 20}
    configuration["model"] |= SMALLEST_GRAPH
    configuration["training"]["max_epochs"] = 2
    path = f"{root}/config.yaml"
    with fs.open_file(path, "w") as file:
        json.dump(configuration, file)
    return load_config(path)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    working_dir = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tag_index_evaluator, "evaluate_in_own_process", evaluate_in_this_process)
        pipeline = create_pipeline(config, find_inputs(config))
        pipeline.metadata_connection_config = metadata.sqlite_metadata_connection_config(
            str(folder / "metadata.sqlite")
        )
        runs = ReportingLocalRunner(lambda node: None, lambda run: None).run(pipeline)
    assert os.getcwd() == working_dir
    # Nothing went to a local folder of that name.
    assert os.listdir(folder) == ["metadata.sqlite"]
    return {run.node: run.outputs for run in runs}


def test_prepared_tables_are_the_same_files_on_a_remote_file_system(root, tmp_path):
    sizes = DemoConfig(num_users=2_100, num_tags=80, num_items=90, num_categories=2)
    in_memory = BeamConfig("local").pipeline_args()
    output = f"{root}/prepared/out"

    wanted = prepare_demo(str(tmp_path / "out"), sizes, rows_per_part=1)
    prepare_demo(output, DemoConfig(num_users=5, num_tags=80, num_items=90, num_categories=2))
    # The earlier output is replaced.
    found = prepare_demo(output, sizes, in_memory, rows_per_part=1)
    fs.copy_folder(output, str(tmp_path / "copy"))

    assert (found.num_interactions, found.num_clicks) == (
        wanted.num_interactions,
        wanted.num_clicks,
    )
    assert fs.names_in(f"{root}/prepared") == ["out"]
    local, copies = (fs.files_below(str(tmp_path / name)) for name in ("out", "copy"))
    assert len(local) == len(copies) == 8
    for path, copy in zip(local, copies, strict=True):
        assert os.path.basename(path) == os.path.basename(copy)
        with open(path, "rb") as one, open(copy, "rb") as other:
            assert one.read() == other.read(), path


def test_run_on_a_remote_file_system_pushes_there(run, config, root):
    for outputs in run.values():
        for artifacts in outputs.values():
            assert all(artifact.uri.startswith(root) for artifact in artifacts)
    (version,) = read_versions(config.base_path)
    (exact,) = read_versions(config.exact_base_path)

    assert (exact.number, version.path) == (version.number, f"{root}/run/serving/{version.number}")
    assert version.provenance["towers"] == run["Trainer"]["model"][0].uri
    assert fs.names_in(config.base_path) == [str(version.number)]  # nothing staged is left
    # The training's checkpoints are gone as well.
    assert not fs.files_below(f"{root}/run/checkpoints")


def test_batch_prediction_from_and_to_it_writes_what_local_folders_get(run, config, root, tmp_path):
    (version,) = read_versions(config.base_path)
    instances = run["ExampleGen"]["instances"][0].uri
    for source, target in ((version.path, "1"), (instances, "instances")):
        fs.copy_folder(source, str(tmp_path / target))

    remote, local = (
        BatchPredictConfig(
            model_dir=model,
            input_pattern=f"{folder}/*.jsonl",
            output_dir=output,
            shard_bytes=20_000,
        )
        for model, folder, output in (
            (version.path, instances, f"{root}/predictions"),
            (str(tmp_path / "1"), str(tmp_path / "instances"), str(tmp_path / "predictions")),
        )
    )
    counts = batch_predict(remote, BeamConfig().pipeline_args())

    assert counts == batch_predict(local, BeamConfig().pipeline_args())
    assert counts["predicted"] > 100
    names = fs.names_in(local.output_dir)
    assert fs.names_in(remote.output_dir) == names and len(names) > 3
    for name in names:
        if name == ABOUT_FILE:  # has the time
            continue
        with fs.open_file(f"{remote.output_dir}/{name}", "rb") as file:
            assert file.read() == (tmp_path / "predictions" / name).read_bytes(), name
    assert not fs.exists(f"{root}/_predictions.partial")


def test_version_is_rolled_back_there_and_the_one_before_answers(run, config, root, capsys):
    # Copies, so that other tests find what the run has pushed and no more.
    base_path = f"{root}/rolled_back/serving"
    paths = {"base_path": base_path, "exact_base_path": exact_twin(base_path)}
    for name, path in paths.items():
        fs.copy_folder(getattr(config, name), path)
    (first,) = read_versions(base_path)
    servable = run["TagIndexBuilder"]["servable"][0].uri
    second = push(push_sources(paths, servable), first.provenance)

    assert main(["rollback", "--model_base_path", base_path]) == 0
    assert main(["versions", "--model_base_path", base_path]) == 0

    for base_path in paths.values():
        states = {v.number: v.is_withdrawn for v in read_versions(base_path)}
        assert states == {first.number: False, second: True}
    assert str(second) in capsys.readouterr().out
    answers = ServableCaller(first.path).retrieve([{}])
    assert len(set(answers.tags[0])) == 20
