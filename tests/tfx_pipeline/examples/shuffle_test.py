"""Parcels of both kinds, and the engines that may use files and threads."""

import os

import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from tfx_pipeline.config.beam import BeamConfig, DataflowConfig
from tfx_pipeline.examples.shuffle import (
    IN_BEAM,
    FilePart,
    ParcelWriter,
    open_parcel,
    parcel_size,
    workplace_of,
)

BATCHES = [
    pa.record_batch([pa.array(["ü", "b"]), pa.array([1, 2])], names=["a", "b"]),
    pa.record_batch([pa.array([], pa.string())], names=["a"]),
    pa.record_batch([pa.array([b"\x00" * 1000])], names=["c"]),
]


@pytest.mark.parametrize("goes_through_files", [False, True])
def test_parcels_hold_what_was_written(tmp_path, goes_through_files):
    folder = str(tmp_path) if goes_through_files else None
    with ParcelWriter(folder) as writer:
        parcels = [writer.write(batch) for batch in BATCHES]
    assert [open_parcel(parcel) for parcel in parcels] == BATCHES
    assert all(isinstance(parcel, FilePart) == goes_through_files for parcel in parcels)
    # A tuple that a coder made of it is as good.
    assert [open_parcel(tuple(p) if goes_through_files else p) for p in parcels] == BATCHES
    files = [*tmp_path.iterdir()]
    assert len(files) == goes_through_files
    assert sum(path.stat().st_size for path in files) == goes_through_files * sum(
        map(parcel_size, parcels)
    )


def test_writers_never_share_a_file(tmp_path):
    with ParcelWriter(str(tmp_path)) as one, ParcelWriter(str(tmp_path)) as other:
        parcels = [one.write(BATCHES[0]), other.write(BATCHES[2]), one.write(BATCHES[1])]
    assert [open_parcel(parcel) for parcel in parcels] == [BATCHES[0], BATCHES[2], BATCHES[1]]
    assert len([*tmp_path.iterdir()]) == 2


def options_of(config):
    return PipelineOptions(config.pipeline_args())


def test_local_engine_has_files_beside_the_outputs_and_all_cores(tmp_path):
    beside = tmp_path / "run" / "examples"
    beside.parent.mkdir()
    with workplace_of(options_of(BeamConfig()), str(beside)) as workplace:
        assert os.path.dirname(workplace.shuffle_dir) == str(tmp_path / "run")
        assert os.path.isdir(workplace.shuffle_dir)
        assert workplace.num_threads == len(os.sched_getaffinity(0))
    assert [*beside.parent.iterdir()] == []


def test_files_are_removed_after_a_failure_too(tmp_path):
    def fail():
        with workplace_of(options_of(BeamConfig()), str(tmp_path / "examples")) as workplace:
            with ParcelWriter(workplace.shuffle_dir) as writer:
                writer.write(BATCHES[0])
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [*tmp_path.iterdir()] == []


def test_files_of_a_run_that_was_killed_are_removed_by_the_next(tmp_path):
    left = tmp_path / ".shuffle-killed" / "a.arrow"
    left.parent.mkdir()
    left.write_bytes(b"half")

    with workplace_of(options_of(BeamConfig()), str(tmp_path / "examples")):
        assert not left.parent.exists()


def test_processes_of_this_machine_share_files_and_have_a_thread_each(tmp_path):
    config = BeamConfig("multi_process")
    with workplace_of(options_of(config), str(tmp_path / "examples")) as workplace:
        assert os.path.isdir(workplace.shuffle_dir)
        assert workplace.num_threads == 1


def test_outputs_elsewhere_leave_the_files_on_this_machine():
    with workplace_of(options_of(BeamConfig()), "gs://bucket/run/examples") as workplace:
        assert os.path.isdir(workplace.shuffle_dir)


@pytest.mark.parametrize(
    "config",
    [
        BeamConfig("flink"),
        BeamConfig("dataflow", dataflow=DataflowConfig("p", "europe-west4", "gs://b/tmp")),
    ],
)
def test_engines_on_other_machines_shuffle_in_beam(config, tmp_path):
    with workplace_of(options_of(config), str(tmp_path / "examples")) as workplace:
        assert workplace == IN_BEAM
    assert [*tmp_path.iterdir()] == []
