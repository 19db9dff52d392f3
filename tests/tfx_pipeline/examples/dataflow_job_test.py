"""Example generation on Dataflow, up to the request that the service would receive.

The service is a local HTTP server that keeps what it is sent. Beam's runner, client and messages
are real; files that it stages go into a local folder in place of a bucket.
"""

import http.server
import json
import threading
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.options.pipeline_options import TestOptions as DryRunOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

from tests.tfx_pipeline.config.beam_test import DATAFLOW
from tests.tfx_pipeline.examples.example_runs import write_tables
from tfx_pipeline.config.beam import BeamConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.write_examples import ExampleOutputs, write_examples
from tfx_pipeline.tables.inputs import find_tables
from trainer.contract.config_loader import from_mapping
from trainer.contract.features import Domain, FeatureSpec

SPEC = FeatureSpec(domains=(Domain("clicked"),))


@pytest.fixture
def service():
    """Records (path, body) of each request, and answers as if the job existed."""
    requests: list[tuple[str, dict]] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802 (the standard library's name)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, body))
            answer = {"id": "some-job", "clientRequestId": body["clientRequestId"]}
            self._answer({**answer, "currentState": "JOB_STATE_PENDING"})

        def do_GET(self):  # noqa: N802
            self._answer({"id": "some-job", "currentState": "JOB_STATE_PENDING"})

        def _answer(self, content: dict) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_request_asks_for_the_configured_workers_to_run_the_examples(service, tmp_path):
    endpoint, requests = service
    staging = tmp_path / "staging"
    staging.mkdir()
    config = from_mapping(BeamConfig, {"runner": "dataflow", "dataflow": DATAFLOW})
    options = PipelineOptions(config.pipeline_args(), job_name="examples")
    options.view_as(GoogleCloudOptions).dataflow_endpoint = endpoint
    options.view_as(GoogleCloudOptions).no_auth = True
    options.view_as(GoogleCloudOptions).staging_location = str(staging)
    # Beam's validation would look the buckets up.
    options.view_as(DryRunOptions).dry_run = True
    # No worker reads them: the graph only says where the tables are.
    event = {"user_id": "u", "item_id": "i", "timestamp": 1000, "clicked": 1}
    data = write_tables(tmp_path, [event], users=[{"user_id": "u"}])
    folders = ("examples", "instances", "summary", "rejected")
    outputs = ExampleOutputs(*(f"gs://some-bucket/run/{name}" for name in folders))

    pipeline = beam.Pipeline(options=options)
    write_examples(pipeline, data, SPEC, ExamplesConfig(), outputs, find_tables(data, SPEC))
    options.view_as(DryRunOptions).dry_run = False
    DataflowRunner().run_pipeline(pipeline, options)

    ((path, job),) = requests
    assert path.partition("?")[0] == (
        f"/v1b3/projects/{DATAFLOW['project']}/locations/{DATAFLOW['region']}/jobs"
    )
    assert (job["name"], job["type"]) == ("examples", "JOB_TYPE_BATCH")
    environment = job["environment"]
    assert environment["serviceAccountEmail"] == DATAFLOW["service_account_email"]
    assert "some-bucket/tmp" in environment["tempStoragePrefix"]
    (pool,) = environment["workerPools"]
    assert pool["machineType"] == DATAFLOW["machine_type"]
    assert pool["numWorkers"] == DATAFLOW["num_workers"]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == DATAFLOW["max_num_workers"]
    assert pool["subnetwork"] == DATAFLOW["subnetwork"]
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    (harness,) = pool["sdkHarnessContainerImages"]
    assert harness["containerImage"] == DATAFLOW["container_image"]

    # The graph travels as a file beside the request.
    (staged,) = staging.rglob("pipeline.pb")
    graph = beam_runner_api_pb2.Pipeline.FromString(Path(staged).read_bytes())
    names = {transform.unique_name for transform in graph.components.transforms.values()}
    assert {"WriteShard", "WriteNotes"} <= {name.partition("/")[0] for name in names}
    images = {
        beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        for environment in graph.components.environments.values()
    }
    assert images == {DATAFLOW["container_image"]}
    # Nothing is installed by workers: the image has it all.
    assert not [package for package in pool.get("packages", []) if "requirements" in str(package)]
