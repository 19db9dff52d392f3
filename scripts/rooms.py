"""The rooms of the project: `docs/rooms.toml`, what the code has in its place, and the picture.

`python -m scripts.rooms` draws `docs/rooms.svg` from the table; `python -m scripts.rooms --table`
prints the table as the imports of the code have it, to see what a change adds.
"""

import argparse
import ast
import html
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import tomli

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "rooms.toml"
PICTURE = ROOT / "docs" / "rooms.svg"
PACKAGES = ("tagtower_client", "trainer", "serving", "tfx_pipeline")
# A distribution of its own has its package in a folder of its own.
FOLDERS = {"tagtower_client": "client/tagtower_client"}
# Libraries that take long to load or stand for a side of the system; others are in setup.py alone.
LIBRARIES = ("apache_beam", "grpc", "scann", "tensorflow", "tfx")
# Folders whose own folders are rooms; their modules stand for themselves, as a package's do.
DIVIDED = ("trainer", "serving", "tfx_pipeline", "serving/model_server", "tfx_pipeline/study")


class Room(NamedTuple):
    """A folder of modules, or one module at the root of a divided folder.

    Attributes:
      imports: Names of the rooms that it imports.
      libraries: The names of `LIBRARIES` that it imports.
    """

    imports: frozenset[str]
    libraries: frozenset[str]


def read_table() -> dict[str, Room]:
    """Reads the rooms and who may import whom, by name."""
    rooms = tomli.loads(TABLE.read_text(encoding="utf-8"))
    return {
        name: Room(frozenset(room.get("imports", ())), frozenset(room.get("libraries", ())))
        for name, room in rooms.items()
    }


def folder_of(room: str) -> Path:
    """Returns the folder of a room, or of the module without its ending."""
    package, _, rest = room.partition("/")
    return ROOT / FOLDERS.get(package, package) / rest


def room_of(path: str) -> str:
    """The room of a source file, a path below the project's folder."""
    folder, _, name = path.rpartition("/")
    if folder in DIVIDED and name != "__init__.py":
        return path.removesuffix(".py")
    # `trainer/towers/field_interactions` is a part of the room that it lies in.
    while "/" in folder and folder.rpartition("/")[0] not in DIVIDED:
        folder = folder.rpartition("/")[0]
    return folder


def read_code() -> dict[str, Room]:
    """Finds the rooms and their imports in the source."""
    paths = {
        f"{package}/{path.relative_to(folder_of(package)).as_posix()}": path
        for package in PACKAGES
        for path in sorted(folder_of(package).rglob("*.py"))
    }
    modules = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in paths
    }
    imports: dict[str, set[str]] = {}
    libraries: dict[str, set[str]] = {}
    for path, file in paths.items():
        room = room_of(path)
        own = imports.setdefault(room, set())
        used = libraries.setdefault(room, set())
        for name in _imported_names(file.read_text(encoding="utf-8")):
            top = name.partition(".")[0]
            if top in LIBRARIES:
                used.add(top)
            elif top in PACKAGES:
                while name not in modules:
                    name = name.rpartition(".")[0]
                own.add(room_of(modules[name]))
        # Importing a module runs the `__init__` of its package, which is asked for by nobody.
        own -= {room, *(set(PACKAGES) & set(DIVIDED))}
    return {
        room: Room(frozenset(imports[room]), frozenset(libraries[room])) for room in sorted(imports)
    }


def _imported_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floors(rooms: Mapping[str, Room]) -> dict[str, int]:
    """How many rooms lie below each, one upon the other.

    Args:
      rooms: By name.

    Returns:
      By name; 0 for a room that imports none.

    Raises:
      ValueError: Rooms import one another in a circle; they are named.
    """
    found: dict[str, int] = {}

    def visit(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise ValueError(f"a circle: {' -> '.join([*above[above.index(name) :], name])}")
        if name not in found:
            below = [visit(other, (*above, name)) for other in sorted(rooms[name].imports)]
            found[name] = 1 + max(below, default=-1)
        return found[name]

    for name in rooms:
        visit(name, ())
    return found


def to_toml(rooms: Mapping[str, Room]) -> str:
    """The table as text, from the bottom of each package to its top."""
    floor = floors(rooms)
    ordered = sorted(
        rooms, key=lambda name: (PACKAGES.index(name.split("/")[0]), floor[name], name)
    )
    lines = []
    for name in ordered:
        lines.append(f'["{name}"]')
        for key in ("imports", "libraries"):
            values = sorted(getattr(rooms[name], key))
            if values:
                text = ", ".join(f'"{value}"' for value in values)
                wrapped = textwrap.wrap(text, 94)
                is_short = len(wrapped) == 1 and len(text) < 84
                lines += (
                    [f"{key} = [{text}]"]
                    if is_short
                    else [f"{key} = [", *(f"  {line}" for line in wrapped), "]"]
                )
        lines.append("")
    return "\n".join(lines)


# The picture.

_BOX_WIDTH, _BOX_HEIGHT, _GAP, _FLOOR_GAP, _MARGIN = 190, 58, 18, 34, 24
_COLORS = {
    "trainer": "#dbeafe",
    "serving": "#dcfce7",
    "tfx_pipeline": "#fef3c7",
    "tagtower_client": "#fce7f3",
}


def summary_of(room: str) -> str:
    """The first sentence of a room's docstring, or of its module's."""
    folder = folder_of(room)
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.split("\n\n")[0].replace("\n", " ")


def draw(rooms: Mapping[str, Room]) -> str:
    """The rooms as SVG: a package above those that it imports, a room above those it imports.

    Arrows between packages, and those that follow from others, are left out.
    """
    parts: list[str] = []
    top = _MARGIN
    width = 0
    for package in reversed(PACKAGES):
        own = {
            name: Room(
                frozenset(other for other in room.imports if other.split("/")[0] == package),
                frozenset(),
            )
            for name, room in rooms.items()
            if name.split("/")[0] == package and (name != package or package not in DIVIDED)
        }
        band, band_width, height = _draw_package(package, own, top)
        parts += band
        width = max(width, band_width)
        top += height + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" '
        'font-family="sans-serif" font-size="11">\n'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#64748b"/></marker></defs>\n'
        '<rect width="100%" height="100%" fill="white"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _draw_package(package: str, rooms: Mapping[str, Room], top: int) -> tuple[list[str], int, int]:
    floor = floors(rooms)
    rows = [
        sorted(name for name in rooms if floor[name] == number)
        for number in range(max(floor.values()), -1, -1)
    ]
    width = max(len(row) for row in rows) * (_BOX_WIDTH + _GAP) + _GAP + 2 * _MARGIN
    height = len(rows) * (_BOX_HEIGHT + _FLOOR_GAP) + 40
    places = {}
    for i, row in enumerate(rows):
        left = (width - len(row) * (_BOX_WIDTH + _GAP) + _GAP) // 2
        for j, name in enumerate(row):
            places[name] = (
                left + j * (_BOX_WIDTH + _GAP),
                top + 36 + i * (_BOX_HEIGHT + _FLOOR_GAP),
            )
    lines = [
        f'<rect x="{_MARGIN // 2}" y="{top}" width="{width - _MARGIN}" height="{height}" rx="8" '
        f'fill="{_COLORS[package]}" opacity="0.45"/>',
        f'<text x="{_MARGIN}" y="{top + 22}" font-size="16" font-weight="bold">{package}</text>',
    ]
    for name in sorted(rooms):
        for other in sorted(_direct(rooms, name)):
            (x1, y1), (x2, y2) = places[name], places[other]
            lines.append(
                f'<line x1="{x1 + _BOX_WIDTH // 2}" y1="{y1 + _BOX_HEIGHT}" '
                f'x2="{x2 + _BOX_WIDTH // 2}" y2="{y2}" stroke="#64748b" stroke-width="0.8" '
                'opacity="0.6" marker-end="url(#arrow)"/>'
            )
    for name, (x, y) in sorted(places.items()):
        lines += _draw_box(package, name, x, y)
    return lines, width, height


def _draw_box(package: str, name: str, x: int, y: int) -> list[str]:
    title = html.escape(name.removeprefix(f"{package}/"))
    summary = summary_of(name)
    # Three lines at most; the whole sentence is the box's tooltip.
    text = textwrap.wrap(summary, 36, max_lines=3, placeholder=" ...")
    return [
        f"<g><title>{html.escape(summary)}</title>"
        f'<rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="4" fill="white" '
        'stroke="#334155"/>',
        f'<text x="{x + 6}" y="{y + 14}" font-weight="bold">{title}</text>',
        *(
            f'<text x="{x + 6}" y="{y + 27 + 12 * i}" font-size="9">{html.escape(line)}</text>'
            for i, line in enumerate(text)
        ),
        "</g>",
    ]


def _direct(rooms: Mapping[str, Room], name: str) -> set[str]:
    """What a room imports, without what it reaches through another one of them as well."""
    indirect: set[str] = set()
    waiting = [other for first in rooms[name].imports for other in rooms[first].imports]
    while waiting:
        other = waiting.pop()
        if other not in indirect:
            indirect.add(other)
            waiting += rooms[other].imports
    return set(rooms[name].imports) - indirect


def main() -> None:
    """Draws the picture, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="print the table as the code has it")
    if parser.parse_args().table:
        print(to_toml(read_code()))
    else:
        PICTURE.write_text(draw(read_table()), encoding="utf-8")


if __name__ == "__main__":
    main()
