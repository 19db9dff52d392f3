"""Whether a version fits into memory beside what is loaded already: estimated before it is loaded.

A load that runs out of memory ends the process, and with it the version that served. The factors
are measured on our servables (docs/speed.md): nearly all of a small version is its graph, nearly
all of one with many tags its tables, once as variables and once more as an index reads them.
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
_FIXED_BYTES = 20e6
# A node of a graph in Python, in the session, and in the graphs of the signatures.
_BYTES_PER_NODE = 24e3
# Of each byte of a table; ScaNN makes one more copy, and another while it does.
_PER_VARIABLE_BYTE = 2.2
_PER_VARIABLE_BYTE_SCANN = 4.2
# A line of a vocabulary is a string and an entry of a table; a constant is in several graphs.
_PER_ASSET_BYTE = 8
_PER_CONSTANT_BYTE = 4
_SCANN_OP = "Scann>"
# Of constants; smaller ones are part of the nodes.
_LARGE_CONSTANT_BYTES = 1024
# Of `memory.stat`: pages of files, and what the system remembers of them. A file that is read
# twice, as those of a version are, is active.
_RECLAIMABLE: tuple[str, ...] = ("inactive_file", "active_file", "slab_reclaimable")
_RECLAIMABLE_V1 = ("total_inactive_file", "total_active_file")
# Limits that say "none" as a number of pages.
_NO_LIMIT = 2**60


class NotEnoughMemoryError(ServingError):
    """A version that would not fit now; it is tried again.

    Args:
      message: What it takes, and what there is.
    """

    def __init__(self, message: str):
        super().__init__(grpc.StatusCode.RESOURCE_EXHAUSTED, message)


@dataclasses.dataclass(frozen=True)
class AvailableMemory:
    """What can still be taken.

    Attributes:
      num_bytes: How much.
      limit: What says so.
    """

    num_bytes: float
    limit: str


class LoadMemory:
    """Lets a version be loaded, or not.

    Args:
      max_mb: Megabytes that a load may take by estimate; None: what is available at the time; 0:
        any.
      root: Where `proc` and `sys` are.
    """

    def __init__(self, max_mb: float | None = None, root: str = "/"):
        if max_mb is not None and not max_mb >= 0:
            raise ValueError(
                f"`max_load_memory_mb` must not be negative. Received: max_load_memory_mb={max_mb}."
            )
        self._max_mb = max_mb
        self._root = root

    def check(self, path: str) -> None:
        """Refuses a version that does not fit.

        Args:
          path: Its folder.

        Raises:
          NotEnoughMemoryError: RESOURCE_EXHAUSTED, with the numbers.
        """
        misfit = self._misfit(path)
        if misfit is not None:
            _return_free_memory()
            misfit = self._misfit(path)
        if misfit is not None:
            raise misfit

    def _misfit(self, path: str) -> NotEnoughMemoryError | None:
        """Why a version does not fit; None: it does, or nobody can tell."""
        available = self._available()
        if available is None:
            return None
        try:
            sizes = VersionSizes.of(path)
            # A graph that does not fit is not read, either.
            needed = sizes.least_bytes
            if needed <= available.num_bytes:
                needed = sizes.estimated_bytes()
        except (OSError, DecodeError):
            return None  # what is wrong is for the load to say
        if needed <= available.num_bytes:
            return None
        return NotEnoughMemoryError(
            f"Loading it takes about {needed / _MB:,.0f} MB, of which "
            f"{max(0, available.num_bytes) / _MB:,.0f} MB are available "
            f"({available.limit}). It is tried again every minute. Give the server more "
            "memory, or say with --max_load_memory_mb what a load may take."
        )

    def _available(self) -> AvailableMemory | None:
        """What a load may take; None: whatever it takes, or nobody knows."""
        if self._max_mb is None:
            return available_memory(self._root)
        if self._max_mb == 0:
            return None
        return AvailableMemory(self._max_mb * _MB, "--max_load_memory_mb")


def _return_free_memory() -> None:
    """Gives the system what versions that were unloaded have left free.

    The allocator of C keeps it, of one of our servables all of its 150 MB: each second push would
    seem too large.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


@dataclasses.dataclass(frozen=True)
class VersionSizes:
    """Bytes of a version's files, and what loading them takes."""

    path: str
    graph: int
    variables: int
    assets: int

    @classmethod
    def of(cls, path: str) -> "VersionSizes":
        """Sizes of the files in a version's folder.

        Raises:
          OSError: A file cannot be read.
        """
        file = os.path.join(path, "saved_model.pb")
        return cls(path, file_size(file), _bytes_in(path, "variables"), _bytes_in(path, "assets"))

    @property
    def least_bytes(self) -> float:
        """What the files alone take in memory, the graph unread."""
        tables = _PER_VARIABLE_BYTE * self.variables + _PER_ASSET_BYTE * self.assets
        return self.graph + tables

    def estimated_bytes(self) -> float:
        """What loading the version adds to the server's memory at its peak, by measured factors.

        Raises:
          OSError: The graph cannot be read.
          DecodeError: The graph is none.
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
    """How much memory this process can still take; None: the system does not tell.

    The least of what the machine has, what the control groups of the process leave (of version 1 or
    2, as containers set them), and what its own limits leave (`ulimit`).

    Args:
      root: Where `proc` and `sys` are.
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
    """What the group of this process and those above it leave."""
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
        # In a container the path may be that of the host, and the group is at the top.
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None and limit < _NO_LIMIT:
                # What was read of files and can be read again is no use of memory.
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
    """The number that a file holds; None: there is none, as where it says `max`."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    """Names and numbers of lines such as `MemAvailable:  20706 kB`."""
    rows = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
