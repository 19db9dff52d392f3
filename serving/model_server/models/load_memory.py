"""Memory check before a load: estimates whether a version fits beside the loaded ones.

A load that runs out of memory ends the process, and with it the available version. The factors were
measured with servables of this project (docs/speed.md): a small version's memory is nearly all for
its graph; that of a version with many tags is nearly all for its tables, once as variables and once
more as the index reads them.
"""

import contextlib
import ctypes
import dataclasses
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

from serving.model_server.errors import ServingError
from trainer.contract.file_system import file_size, files_below, is_folder, open_file

_MB = 1e6
# A first load also initialises what all versions share; a later one takes some 30 MB less.
_FIXED_BYTES = 60e6
# Memory of a graph's node in Python, in the session, and in the graphs of the signatures.
_BYTES_PER_NODE = 16e3
# Memory per byte of a table; ScaNN makes one more copy, and a temporary one meanwhile.
_PER_VARIABLE_BYTE = 2.2
_PER_VARIABLE_BYTE_SCANN = 4.2
# Memory per byte of a vocabulary, whose lines become strings and table entries, and per byte of a
# constant, which is in several graphs.
_PER_ASSET_BYTE = 8
_PER_CONSTANT_BYTE = 4
_SCANN_OP = "Scann>"
# Size from which constants are counted; smaller ones are included in the nodes.
_LARGE_CONSTANT_BYTES = 1024
# Fields of `memory.stat` for memory that the system can reclaim: pages of files and related caches.
# Pages of a file that is read twice, as those of a version are, count as active.
_RECLAIMABLE: tuple[str, ...] = ("inactive_file", "active_file", "slab_reclaimable")
_RECLAIMABLE_V1 = ("total_inactive_file", "total_active_file")
# Limits from this size on mean that there is no limit.
_NO_LIMIT = 2**60


class NotEnoughMemoryError(ServingError):
    """The error of a version that does not fit into memory now; its load is tried again later.

    Args:
      message: Text with the needed and the available memory.
    """

    def __init__(self, message: str):
        super().__init__(grpc.StatusCode.RESOURCE_EXHAUSTED, message)


@dataclasses.dataclass(frozen=True)
class AvailableMemory:
    """The memory that a process can still take.

    Attributes:
      num_bytes: Number of available bytes.
      limit: Name of the limit that determines it.
    """

    num_bytes: float
    limit: str


class LoadMemory:
    """The memory limit of loads.

    Args:
      max_mb: Estimated megabytes that a load may take; None: the memory that is available at that
        time; 0: no limit.
      root: Folder of `proc` and `sys`.
    """

    def __init__(self, max_mb: float | None = None, root: str = "/"):
        if max_mb is not None and not max_mb >= 0:
            raise ValueError(
                f"`max_load_memory_mb` must not be negative. Received: max_load_memory_mb={max_mb}."
            )
        self._max_mb = max_mb
        self._root = root

    def check(self, path: str) -> None:
        """Refuses a version that does not fit into memory.

        Args:
          path: Folder of the version.

        Raises:
          NotEnoughMemoryError: RESOURCE_EXHAUSTED, with the needed and the available memory.
        """
        misfit = self._misfit(path)
        if misfit is not None:
            return_free_memory()
            misfit = self._misfit(path)
        if misfit is not None:
            raise misfit

    def _misfit(self, path: str) -> NotEnoughMemoryError | None:
        """Returns the error for a version that does not fit; None: it fits, or that is unknown."""
        available = self._available()
        if available is None:
            return None
        try:
            sizes = VersionSizes.of(path)
            # If the files alone do not fit, the graph is not read.
            needed = sizes.least_bytes
            if needed <= available.num_bytes:
                needed = sizes.estimated_bytes()
        except (OSError, DecodeError):
            return None  # the load will report the error
        if needed <= available.num_bytes:
            return None
        return NotEnoughMemoryError(
            f"Loading it takes about {needed / _MB:,.0f} MB, of which "
            f"{max(0, available.num_bytes) / _MB:,.0f} MB are available "
            f"({available.limit}). It is tried again every minute. Give the server more "
            "memory, or say with --max_load_memory_mb what a load may take."
        )

    def _available(self) -> AvailableMemory | None:
        """Returns the memory that a load may take; None: there is no limit, or it is unknown."""
        if self._max_mb is None:
            return available_memory(self._root)
        if self._max_mb == 0:
            return None
        return AvailableMemory(self._max_mb * _MB, "--max_load_memory_mb")


def return_free_memory() -> None:
    """Returns freed memory to the system, which takes some milliseconds.

    The C allocator keeps what unloaded versions freed, for a servable of this project nearly all of
    it: every second push would seem too large. It also keeps what a load needed for a moment.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


@dataclasses.dataclass(frozen=True)
class VersionSizes:
    """The sizes of a version's files, and the memory that loading them takes.

    Attributes:
      path: Folder of the version.
      graph: Bytes of the graph.
      variables: Bytes of the variables.
      assets: Bytes of the assets, such as vocabularies.
    """

    path: str
    graph: int
    variables: int
    assets: int

    @classmethod
    def of(cls, path: str) -> "VersionSizes":
        """Reads the sizes of the files in a version's folder.

        Raises:
          OSError: A file cannot be read.
        """
        file = os.path.join(path, "saved_model.pb")
        return cls(path, file_size(file), _bytes_in(path, "variables"), _bytes_in(path, "assets"))

    @property
    def least_bytes(self) -> float:
        """Returns the memory that the files take at least, without reading the graph."""
        tables = _PER_VARIABLE_BYTE * self.variables + _PER_ASSET_BYTE * self.assets
        return self.graph + tables

    def estimated_bytes(self) -> float:
        """Estimates the peak memory that loading the version adds, by measured factors.

        Raises:
          OSError: The graph cannot be read.
          DecodeError: The graph is not a valid message.
        """
        with open_file(os.path.join(self.path, "saved_model.pb"), "rb") as file:
            model = saved_model_pb2.SavedModel.FromString(file.read())
        num_nodes, constants, has_scann = 0, 0, False
        for node in _nodes(model):
            num_nodes += 1
            has_scann = has_scann or node.op.startswith(_SCANN_OP)
            if node.op == "Const" and (size := node.ByteSize()) > _LARGE_CONSTANT_BYTES:
                constants += size
        factor = _PER_VARIABLE_BYTE_SCANN if has_scann else _PER_VARIABLE_BYTE
        return (
            _FIXED_BYTES
            + _BYTES_PER_NODE * num_nodes
            + _PER_CONSTANT_BYTE * constants
            + factor * self.variables
            + _PER_ASSET_BYTE * self.assets
        )


def _nodes(model: saved_model_pb2.SavedModel) -> Iterator[node_def_pb2.NodeDef]:
    for meta_graph in model.meta_graphs:
        yield from meta_graph.graph_def.node
        for function in meta_graph.graph_def.library.function:
            yield from function.node_def


def _bytes_in(path: str, folder: str) -> int:
    folder = os.path.join(path, folder)
    if not is_folder(folder):
        return 0
    return sum(map(file_size, files_below(folder)))


def available_memory(root: str = "/") -> AvailableMemory | None:
    """Determines how much memory this process can still take; None: the system does not tell.

    This is the minimum of the machine's available memory, the remainder of the limits of the
    process's control groups (version 1 or 2, as containers set them), and the remainder of its own
    limits (`ulimit`).

    Args:
      root: Folder of `proc` and `sys`.
    """
    system = Path(root)
    found = [*_of_machine(system), *_of_groups(system), *_of_process(system)]
    return min(found, key=lambda memory: memory.num_bytes, default=None)


def _of_machine(root: Path) -> Iterator[AvailableMemory]:
    kilobytes = _table(root / "proc/meminfo").get("MemAvailable")
    if kilobytes is not None:
        yield AvailableMemory(kilobytes * 1024, "memory of the machine")


def _of_process(root: Path) -> Iterator[AvailableMemory]:
    status = _table(root / "proc/self/status")
    for name, limit, used in (
        ("-v", resource.RLIMIT_AS, "VmSize"),
        ("-d", resource.RLIMIT_DATA, "VmData"),
    ):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY and used in status:
            yield AvailableMemory(soft - status[used] * 1024, f"`ulimit {name}`")


def _of_groups(root: Path) -> Iterator[AvailableMemory]:
    """Yields the memory that the limits of this process's control group and its parents leave."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
            counted = _RECLAIMABLE
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            counted = _RECLAIMABLE_V1
        else:
            continue
        # In a container the path may be the host's path, while the group is at the top.
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None and limit < _NO_LIMIT:
                # Cached pages of files do not count as used, because they can be read again.
                counts = _table(folder / "memory.stat")
                cached = min(used, sum(counts.get(name, 0) for name in counted))
                yield AvailableMemory(
                    limit - used + cached, f"limit of {limit / _MB:,.0f} MB of the container"
                )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """Reads the number in a file; None: there is none, for example because it says `max`."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    """Reads names and numbers from lines such as `MemAvailable:  20706 kB`."""
    rows = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
