import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options import TestOptions as DryRunOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.transforms import environments

from tfx_pipeline.config.beam import BeamConfig
from trainer.contract.config_loader import from_mapping

DATAFLOW = {
    "project": "some-project",
    "region": "europe-west4",
    "temp_location": "gs://some-bucket/tmp",
    "staging_location": "gs://some-bucket/staging",
    "container_image": "europe-docker.pkg.dev/some-project/tagtower/beam:1",
    "machine_type": "n2-standard-4",
    "disk_size_gb": 60,
    "num_workers": 2,
    "max_num_workers": 20,
    "service_account_email": "beam@some-project.iam.gserviceaccount.com",
    "subnetwork": "regions/europe-west4/subnetworks/private",
    "use_public_ips": False,
}


def options_of(config: BeamConfig) -> PipelineOptions:
    options = PipelineOptions(config.pipeline_args())
    # Beam would ignore an unknown option without a message.
    known = set(options.get_all_options(retain_unknown_options=False))
    asked = {argument[2:].partition("=")[0] for argument in config.pipeline_args()}
    assert asked - {"no_use_public_ips"} <= known
    # Beam's validation would look the buckets up.
    options.view_as(DryRunOptions).dry_run = True
    return options


def test_engines_of_this_machine_are_the_direct_runner():
    # Its defaults; any argument at all would make TFX pack itself up for each component.
    options = options_of(BeamConfig()).view_as(DirectOptions)
    assert BeamConfig().pipeline_args() == []
    assert (options.direct_running_mode, options.direct_num_workers) == ("in_memory", 1)
    assert BeamConfig("multi_process", 3).pipeline_args() == [
        "--runner=DirectRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=3",
    ]


def test_flink_is_reached_through_a_job_server():
    pool = {"environment_type": "EXTERNAL", "environment_config": "localhost:50000"}
    config = from_mapping(
        BeamConfig,
        {"runner": "flink", "flink": {"job_endpoint": "jobs:8099", "parallelism": 8, **pool}},
    )

    options = options_of(config)

    assert options.view_as(StandardOptions).runner == "PortableRunner"
    portable = options.view_as(PortableOptions)
    assert portable.job_endpoint == "jobs:8099"
    assert (portable.environment_type, portable.environment_config) == tuple(pool.values())
    assert options.get_all_options()["parallelism"] == 8
    assert PipelineOptionsValidator(options, PortableRunner()).validate() == []
    assert "--environment_type=LOOPBACK" in BeamConfig("flink").pipeline_args()


def test_dataflow_options_are_those_that_beam_validates():
    options = options_of(from_mapping(BeamConfig, {"runner": "dataflow", "dataflow": DATAFLOW}))

    assert PipelineOptionsValidator(options, DataflowRunner()).validate() == []
    cloud = options.view_as(GoogleCloudOptions)
    assert (cloud.project, cloud.region) == ("some-project", "europe-west4")
    assert cloud.temp_location == "gs://some-bucket/tmp"
    assert cloud.service_account_email == DATAFLOW["service_account_email"]
    workers = options.view_as(WorkerOptions)
    assert (workers.num_workers, workers.max_num_workers) == (2, 20)
    assert workers.use_public_ips is False
    assert workers.autoscaling_algorithm == "THROUGHPUT_BASED"


def test_dataflow_job_asks_for_the_workers_of_the_configuration():
    options = options_of(from_mapping(BeamConfig, {"runner": "dataflow", "dataflow": DATAFLOW}))
    options.view_as(DebugOptions).add_experiment("use_runner_v2")
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | beam.Create([1])
    image = apiclient.get_container_image_from_options(options)
    workers = environments.DockerEnvironment.from_container_image(image)
    proto = pipeline.to_runner_api(default_environment=workers)

    # The runner's request to the service, up to the files that it stages first.
    environment = apiclient.Environment([], options, "2", "gs://some-bucket/p.pb", proto).proto

    assert environment.tempStoragePrefix.endswith("some-bucket/tmp")
    assert environment.serviceAccountEmail == DATAFLOW["service_account_email"]
    (pool,) = environment.workerPools
    assert (pool.numWorkers, pool.machineType, pool.diskSizeGb) == (2, "n2-standard-4", 60)
    assert pool.autoscalingSettings.maxNumWorkers == 20
    assert "AUTOSCALING_ALGORITHM_BASIC" in str(pool.autoscalingSettings.algorithm)
    assert pool.subnetwork == DATAFLOW["subnetwork"]
    assert "PRIVATE" in str(pool.ipConfiguration)
    images = {image.containerImage for image in pool.sdkHarnessContainerImages}
    assert images == {DATAFLOW["container_image"]}


@pytest.mark.parametrize(
    ("beam_section", "message"),
    [
        ({"runner": "spark"}, "`runner` must be one of local, multi_process, flink, dataflow"),
        ({"num_workers": 0}, "`num_workers` must be a positive integer"),
        ({"runner": "dataflow"}, "`dataflow` must have project, region and temp_location"),
        ({"flink": {"job_endpoint": "http://x"}}, "flink: `job_endpoint` must be host:port"),
        ({"flink": {"parallelism": 0}}, "flink: `parallelism` must be a positive integer"),
        (
            {"flink": {"environment_type": "EXTERNAL"}},
            "flink: `environment_config` must be given for EXTERNAL",
        ),
        (
            {"flink": {"environment_config": "x"}},
            "flink: `environment_config` must be null for LOOPBACK. Received: environment_conf",
        ),
        ({"dataflow": {**DATAFLOW, "region": ""}}, "dataflow: `region` must not be empty"),
        (
            {"dataflow": {**DATAFLOW, "temp_location": "/tmp/x"}},
            "dataflow: `temp_location` must be a folder of Cloud Storage.* Received: .*'/tmp/x'",
        ),
        (
            {"dataflow": {**DATAFLOW, "max_num_workers": 1}},
            "dataflow: `num_workers` must be at most `max_num_workers`, 1. Received: num_workers=2",
        ),
        ({"dataflow": {"project": "p"}}, "`dataflow.region` is missing"),
        ({"dataflow": {**DATAFLOW, "machine": "x"}}, "`dataflow.machine` is not a known key"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(beam_section, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(BeamConfig, beam_section)
