"""The store of a shard's batches until they are written: Beam's shuffle, or files.

Beam's in-memory shuffle needs some four times the memory of what it shuffles. Where all workers see
one disk, the batches go into files, and only their places travel through Beam.
"""

import contextlib
import dataclasses
import os
import tempfile
import uuid
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from tfx_pipeline.examples.user_batches import from_bytes, to_bytes
from trainer.contract.arrow import pa
from trainer.contract.file_system import is_folder, matching, open_file, remove_folder

_PREFIX = ".shuffle-"  # prefix of the folders of shuffle files


class FilePart(NamedTuple):
    """Place of a batch in a file."""

    path: str
    offset: int
    size: int


# A batch in the shuffle: its bytes, or its place in a file.
Parcel = bytes | FilePart


@dataclasses.dataclass(frozen=True)
class Workplace:
    """Resources that a worker of the engine may use on its machine.

    Attributes:
      shuffle_dir: Folder for the shuffle that all workers see; None: Beam shuffles.
      num_threads: Number of threads of a worker that is alone on its machine.
    """

    shuffle_dir: str | None = None
    num_threads: int = 1


# No shared resources: right for any engine, on any machines.
IN_BEAM = Workplace()


class ParcelWriter:
    """Context manager that writes the batches of one part of a table into one file, or none."""

    def __init__(self, shuffle_dir: str | None):
        """Initializes with the folder of shuffle files; None: a batch's bytes are its parcel."""
        self._dir = shuffle_dir
        self._stack = contextlib.ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> "ParcelWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def write(self, batch: pa.RecordBatch) -> Parcel:
        """Stores a batch and returns its parcel, which can be opened once the writer is closed."""
        content = to_bytes(batch)
        if self._dir is None:
            return content
        if self._file is None:
            # A part that is retried writes another file, and nothing reads the first one.
            path = os.path.join(self._dir, f"{uuid.uuid4().hex}.arrow")
            self._file = self._stack.enter_context(open_file(path, "wb"))
        place = FilePart(self._file.name, self._file.tell(), len(content))
        self._file.write(content)
        return place


def open_parcel(parcel: Parcel) -> pa.RecordBatch:
    """Reads the batch of a parcel."""
    if isinstance(parcel, bytes):
        return from_bytes(parcel)
    path, offset, size = parcel
    with open_file(path, "rb") as file:
        file.seek(offset)
        return from_bytes(file.read(size))


def parcel_size(parcel: Parcel) -> int:
    """Returns the size of a parcel's batch in bytes."""
    return len(parcel) if isinstance(parcel, bytes) else parcel[2]


@contextlib.contextmanager
def workplace_of(options: PipelineOptions, beside: str) -> Iterator[Workplace]:
    """Provides the resources of the engine's workers until its pipeline has ended.

    Args:
      options: Options of the pipeline.
      beside: One of the output folders; on a local disk, shuffle files are written to its parent.

    Yields:
      The resources; `IN_BEAM` for an engine on other machines.
    """
    runner = options.view_as(StandardOptions).runner or "DirectRunner"
    if runner.rpartition(".")[2] != "DirectRunner":
        yield IN_BEAM
        return
    is_alone = options.view_as(DirectOptions).direct_running_mode == "in_memory"
    parent = os.path.dirname(os.path.abspath(beside))
    is_beside = is_folder(parent)
    if is_beside:
        # Left by a run that was killed: an output folder has only one run at a time.
        for left in matching(os.path.join(parent, f"{_PREFIX}*")):
            remove_folder(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent if is_beside else None) as folder:
        yield Workplace(folder, len(os.sched_getaffinity(0)) if is_alone else 1)
