"""Runs `tagtower compile`, and then the compiled pipeline node by node, without a cloud."""

import json
import os
import sys
from pathlib import Path

import pytest

from serving.batch.servable_caller import ServableCaller
from tests.docker_recipes import environment_of
from tests.e2e.compiled_pipeline import PLACEHOLDER, CompiledPipeline, schema_title
from tests.e2e.small_log import SMALLEST_GRAPH, make_small_project
from tfx_pipeline.cli import main

pytestmark = pytest.mark.e2e

IMAGE = "registry.example/tagtower:1"
DOCKERFILE = Path(__file__).parents[2] / "tfx_pipeline" / "docker" / "Dockerfile"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_small_project(tmp_path_factory.mktemp("compiled"))
    configuration = project.configuration()
    configuration["index"] = {"kind": "exact", "k": 20}
    configuration["model"] |= SMALLEST_GRAPH
    project.write_configuration(configuration)
    return project


@pytest.fixture(scope="module")
def compiled(project, tmp_path_factory) -> CompiledPipeline:
    specification = project.folder / "pipeline.json"
    status = main(
        ["compile", "--config", str(project.config_path), "--image", IMAGE]
        + ["--output", str(specification)]
    )
    assert status == 0
    environment = {
        # The image's `python` and its variables, without those of this process.
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), "/usr/bin", "/bin"]),
        "HOME": str(tmp_path_factory.mktemp("home")),
        **environment_of(DOCKERFILE),
    }
    pipeline = CompiledPipeline(
        json.loads(specification.read_text()),
        environment,
        tmp_path_factory.mktemp("elsewhere"),
        tmp_path_factory.mktemp("logs"),
    )
    pipeline.run(num_at_once=2)
    return pipeline


def test_every_node_with_a_container_runs_in_a_process_of_its_own_to_a_pushed_model(
    compiled, project
):
    with_container = {
        name for name in compiled.tasks if compiled.executor(name).WhichOneof("spec") == "container"
    }
    assert {name for name, node in compiled.nodes.items() if node.status == 0} == with_container
    assert set(compiled.tasks) - with_container == {
        "LastBlessed-model-blessing-resolver",
        "LastBlessed-model-resolver",
    }
    for name in with_container:
        container = compiled.executor(name).container
        assert container.image == IMAGE
        assert container.command == compiled.executor("ExampleGen").container.command
        assert container.args[:4:2] == [
            "--executor_class_path",
            "--json_serialized_invocation_args",
        ]
        assert container.args[3] == PLACEHOLDER
    (version,) = [path for path in project.base_path.iterdir() if path.name.isdigit()]
    (exact,) = [p for p in (project.output / "serving_exact").iterdir() if p.name.isdigit()]
    assert exact.name == version.name

    provenance = json.loads((version / "assets.extra" / "version.json").read_text())

    (model,) = compiled.nodes["Trainer"].outputs["model"]
    assert (provenance["towers"], provenance["run"]) == (model["uri"], "small")


def test_pushed_version_answers_better_than_chance(compiled, project):
    (version,) = [path for path in project.base_path.iterdir() if path.name.isdigit()]
    (summary,) = compiled.nodes["ExampleGen"].outputs["summary"]
    lines = Path(summary["uri"], "tags.jsonl").read_text().splitlines()
    known = {json.loads(line)["tag"] for line in lines}
    clicked = sorted(known)[:3]

    answers = ServableCaller(str(version)).retrieve([{"clicked_tags": clicked}])

    assert len(set(answers.tags[0])) == 20 and set(answers.tags[0]) <= known
    assert answers.scores[0] == sorted(answers.scores[0], reverse=True)
    (evaluation,) = compiled.nodes["Evaluator"].outputs["evaluation"]
    figures = json.loads(Path(evaluation["uri"], "metrics.json").read_text())
    of_model, of_chance = (
        figures[f"validation.{who}.precision_at_10"] for who in ("model", "random")
    )
    assert of_model > of_chance


def test_next_run_resolves_the_model_that_this_one_blessed(compiled):
    # A first run has none.
    assert compiled.nodes["LastBlessed-model-resolver"].outputs == {"model": []}
    blessing = compiled.resolve("LastBlessed-model-blessing-resolver")
    compiled.nodes["LastBlessed-model-blessing-resolver"].outputs = blessing

    found = compiled.resolve("LastBlessed-model-resolver")

    assert blessing["model_blessing"] == compiled.nodes["Evaluator"].outputs["blessing"]
    assert found["model"] == compiled.nodes["Trainer"].outputs["model"]


def test_artifacts_of_own_types_are_named_as_containers_import_them(compiled):
    titles = {schema_title(artifact) for artifact in compiled.artifacts}

    own = {title for title in titles if not title.startswith("tfx.")}
    assert own == {
        "tfx_pipeline.IndexEvaluation",
        "tfx_pipeline.Instances",
        "tfx_pipeline.LogSummary",
    }
