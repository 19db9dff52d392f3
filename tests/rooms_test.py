"""Checks imports against the table of rooms, docs/rooms.toml: rooms and libraries."""

import ast
import re
from pathlib import Path

import pytest

from scripts.rooms import (
    DIVIDED,
    PACKAGES,
    PICTURE,
    ROOT,
    Room,
    draw,
    floors,
    folder_of,
    read_code,
    read_table,
    room_of,
    summary_of,
)

MOST_MODULES_IN_A_ROOT = 8


@pytest.fixture(scope="module")
def code() -> dict[str, Room]:
    return read_code()


def test_every_import_between_rooms_is_in_the_table_and_every_entry_is_used(code):
    table = read_table()

    assert sorted(code) == sorted(table)
    for name, room in code.items():
        for found, allowed in zip(room, table[name], strict=True):
            assert sorted(found - allowed) == [], f"{name} imports what docs/rooms.toml lacks"
            assert sorted(allowed - found) == [], f"docs/rooms.toml has what {name} does not import"


def test_no_arrow_runs_in_a_circle_and_packages_have_one_direction():
    table = read_table()

    floors(table)

    for name, room in table.items():
        package = PACKAGES.index(name.split("/")[0])
        above = [to for to in room.imports if PACKAGES.index(to.split("/")[0]) > package]
        assert not above, name


def test_circle_is_named():
    def room(*imports: str) -> Room:
        return Room(frozenset(imports), frozenset())

    with pytest.raises(ValueError, match="a circle: b -> c -> b"):
        floors({"a": room("b"), "b": room("c"), "c": room("b")})
    assert floors({"a": room("b", "c"), "b": room("c"), "c": room()}) == {"a": 2, "b": 1, "c": 0}


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("trainer/model.py", "trainer/model"),
        ("trainer/__init__.py", "trainer"),
        ("trainer/towers/user_tower.py", "trainer/towers"),
        ("trainer/towers/field_interactions/registry.py", "trainer/towers"),
        ("serving/model_server/rest/__init__.py", "serving/model_server/rest"),
        ("serving/model_server/errors.py", "serving/model_server/errors"),
        ("tfx_pipeline/components/pusher.py", "tfx_pipeline/components"),
        ("tagtower_client/dialogues.py", "tagtower_client"),
    ],
)
def test_room_is_the_folder_or_the_module_of_a_divided_one(path, room):
    assert room_of(path) == room


def test_serving_knows_of_the_trainer_only_its_contract():
    found = {
        to
        for name, room in read_table().items()
        if name.startswith("serving")
        for to in room.imports
        if to.startswith("trainer")
    }
    assert found == {"trainer/contract"}


@pytest.mark.parametrize("folder", DIVIDED)
def test_roots_have_few_modules(folder):
    modules = [path.name for path in folder_of(folder).glob("*.py") if path.name != "__init__.py"]

    assert len(modules) <= MOST_MODULES_IN_A_ROOT, modules


def test_every_room_says_what_it_is_for_in_a_sentence_or_two():
    for name in read_table():
        words = summary_of(name)
        assert len(words.split()) >= 3 and words.endswith("."), name
        if folder_of(name).is_dir() and name not in PACKAGES:
            tree = ast.parse((folder_of(name) / "__init__.py").read_text(encoding="utf-8"))
            doc = ast.get_docstring(tree) or ""
            assert len(re.findall(r"\.(?:\s|$)", doc)) <= 4, name


def test_tests_mirror_the_rooms():
    # A test file that is named after a module lies where the module does.
    modules = {}
    for package in PACKAGES:
        for path in folder_of(package).rglob("*.py"):
            home = package / path.parent.relative_to(folder_of(package))
            modules.setdefault((package, path.stem), []).append(home)
    strays = []
    for package in PACKAGES:
        for path in (ROOT / "tests" / package).rglob("*_test.py"):
            homes = modules.get((package, path.stem.removesuffix("_test")), [])
            if homes and Path(path.parent.relative_to(ROOT / "tests")) not in homes:
                strays.append(f"{path.relative_to(ROOT)}: {', '.join(map(str, homes))}")

    assert not strays, "\n".join(strays)


def test_picture_is_that_of_the_table():
    assert PICTURE.read_text(encoding="utf-8") == draw(read_table()), "run `make docs`"
