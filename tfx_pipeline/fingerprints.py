"""Fingerprints of what TFX's cache does not see: contents of tables, and code of import paths.

Both are passed to a component as execution properties, so that a changed table or an edited module
reruns the components that depend on it, and no others.
"""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from trainer.contract.file_system import open_file

PROJECT_PACKAGES = ("trainer", "serving", "tagtower_client", "tfx_pipeline")
_BLOCK = 1 << 20


def files_fingerprint(paths: Iterable[str]) -> str:
    """Returns a hash of the names and contents of files; modification times do not matter."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        content = hashlib.blake2b(digest_size=16)
        with open_file(path, "rb") as file:
            while block := file.read(_BLOCK):
                content.update(block)
        digest.update(Path(path).name.encode() + b"\0" + content.digest())
    return digest.hexdigest()


def code_fingerprint(*modules: str) -> str:
    """Returns a hash of the source of modules and of all project modules that they import.

    Args:
      *modules: Dotted names in the project's packages.

    Returns:
      A hash, equal as long as none of these sources changes.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, source in sorted(_closure(modules).items()):
        digest.update(name.encode() + b"\0" + hashlib.blake2b(source, digest_size=16).digest())
    return digest.hexdigest()


def _closure(modules: Iterable[str]) -> dict[str, bytes]:
    sources: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in sources or name.split(".")[0] not in PROJECT_PACKAGES:
            continue
        path = _source_path(name)
        if path is None:  # a name in a module, not a module
            continue
        sources[name] = path.read_bytes()
        # Importing a module also runs its packages.
        waiting.append(name.rpartition(".")[0])
        waiting += _imports(sources[name])
    return sources


# A run takes eight fingerprints, and most modules are part of several.
@functools.cache
def _imports(source: bytes) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def _source_path(module: str) -> Path | None:
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(spec.submodule_search_locations[0]).joinpath(*rest)
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
