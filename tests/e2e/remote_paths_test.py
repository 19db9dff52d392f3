"""Everything on a remote file system: TensorFlow's `ram://`, in one process.

`gs://` goes the same ways: through this project's `file_system`, TFX's fileio and Beam's file
systems, none of which sees a local path here but the metadata's.
"""

import json
import os
import uuid

import pytest
from tfx.orchestration import metadata

from serving import index_evaluation
from tests.e2e.small_log import make_small_project
from tests.ram_file_system import rename_whole_folders  # the import registers `ram://`
from tfx_pipeline.components import tag_index_evaluator
from tfx_pipeline.config import load_config
from tfx_pipeline.pipeline import create_pipeline
from tfx_pipeline.pushed_versions import read_versions
from tfx_pipeline.runners import ReportingLocalRunner
from trainer import file_system as fs

pytestmark = pytest.mark.e2e


def evaluate_in_this_process(servable, patterns, output):
    """Another process has another `ram://`."""
    arguments = ["--servable", servable, "--output", output]
    for split, pattern in patterns.items():
        arguments += ["--examples", f"{split}={pattern}"]
    index_evaluation.main(arguments)
    with fs.open_file(output) as file:
        return json.load(file)


@pytest.fixture(scope="module")
def root():
    return f"ram://{uuid.uuid4().hex}"


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
        rename_whole_folders(patch)
        patch.setattr(tag_index_evaluator, "evaluate_in_own_process", evaluate_in_this_process)
        pipeline = create_pipeline(config)
        pipeline.metadata_connection_config = metadata.sqlite_metadata_connection_config(
            str(folder / "metadata.sqlite")
        )
        runs = ReportingLocalRunner(lambda node: None, lambda run: None).run(pipeline)
    assert os.getcwd() == working_dir
    # Nothing went to a local folder of that name.
    assert os.listdir(folder) == ["metadata.sqlite"]
    return {run.node: run.outputs for run in runs}


def test_run_on_a_remote_file_system_pushes_there(run, config, root):
    for outputs in run.values():
        for artifacts in outputs.values():
            assert all(artifact.uri.startswith(root) for artifact in artifacts)
    (version,) = read_versions(config.base_path)
    (exact,) = read_versions(config.exact_base_path)

    assert (exact.number, version.path) == (version.number, f"{root}/run/serving/{version.number}")
    assert version.provenance["towers"] == run["Trainer"]["model"][0].uri
    assert fs.names_in(config.base_path) == [str(version.number)]  # nothing staged is left
    # What the training kept meanwhile is gone as well.
    assert not fs.files_below(f"{root}/run/checkpoints")
