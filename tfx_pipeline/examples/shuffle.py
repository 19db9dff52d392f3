"""Where the batches of a shard's users wait to be written: Beam's shuffle, or files.

Beam's shuffle in memory holds some four times what it shuffles. Where all workers see one disk, the
batches go into files, and only their places travel through Beam.
"""

import contextlib
import dataclasses
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from tfx_pipeline.examples.user_batches import from_bytes, to_bytes
from trainer.contract.arrow import pa

_PREFIX = ".shuffle-"  # of the folders of files


class FilePart(NamedTuple):
    """Where a batch lies."""

    path: str
    offset: int
    size: int


# A batch on its way: itself, or where it lies.
Parcel = bytes | FilePart


@dataclasses.dataclass(frozen=True)
class Workplace:
    """What a worker of the engine may use of its machine.

    Attributes:
      shuffle_dir: A folder that all workers see, for the shuffle; None: Beam shuffles.
      num_threads: Threads of a worker that is alone on its machine.
    """

    shuffle_dir: str | None = None
    num_threads: int = 1


# Nothing: any engine, on any machines.
IN_BEAM = Workplace()


class ParcelWriter:
    """Writes the batches of one part of a table, each into one file or none; use it in `with`."""

    def __init__(self, shuffle_dir: str | None):
        """Initializes with the folder; None: a batch is its own parcel."""
        self._dir = shuffle_dir
        self._stack = contextlib.ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> "ParcelWriter":
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def write(self, batch: pa.RecordBatch) -> Parcel:
        """Takes a batch; what is returned can be opened when the writer is closed."""
        content = to_bytes(batch)
        if self._dir is None:
            return content
        if self._file is None:
            # A part that is tried again writes another file, and nobody reads the first.
            path = os.path.join(self._dir, f"{uuid.uuid4().hex}.arrow")
            self._file = self._stack.enter_context(open(path, "wb"))
        place = FilePart(self._file.name, self._file.tell(), len(content))
        self._file.write(content)
        return place


def open_parcel(parcel: Parcel) -> pa.RecordBatch:
    """The batch."""
    if isinstance(parcel, bytes):
        return from_bytes(parcel)
    path, offset, size = parcel
    with open(path, "rb") as file:
        file.seek(offset)
        return from_bytes(file.read(size))


def parcel_size(parcel: Parcel) -> int:
    """Bytes of the batch."""
    return len(parcel) if isinstance(parcel, bytes) else parcel[2]


@contextlib.contextmanager
def workplace_of(options: PipelineOptions, beside: str) -> Iterator[Workplace]:
    """What the engine's workers may use, until its pipeline is over.

    Args:
      options: Of the pipeline.
      beside: A folder of the outputs; on a local disk, files of the shuffle lie in its parent.

    Yields:
      The workplace; for an engine on other machines one without anything.
    """
    runner = options.view_as(StandardOptions).runner or "DirectRunner"
    if runner.rpartition(".")[2] != "DirectRunner":
        yield IN_BEAM
        return
    is_alone = options.view_as(DirectOptions).direct_running_mode == "in_memory"
    parent = os.path.dirname(os.path.abspath(beside))
    is_beside = os.path.isdir(parent)
    if is_beside:
        # Of a run that was killed: in an output folder there is one run at a time.
        for left in glob.glob(os.path.join(glob.escape(parent), f"{_PREFIX}*")):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent if is_beside else None) as folder:
        yield Workplace(folder, len(os.sched_getaffinity(0)) if is_alone else 1)
