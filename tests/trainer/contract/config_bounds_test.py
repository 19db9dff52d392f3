"""What a program's own configurations are checked for, and what stays as dataclasses have it."""

import copy
import dataclasses
import inspect
import math
import pickle
import subprocess
import sys

import pytest

from trainer.contract.config_bounds import (
    NotEmpty,
    PositiveInteger,
    PositiveIntegerOrNull,
    Rate,
    Share,
    checked,
)
from trainer.contract.config_loader import from_mapping, from_saved, to_mapping


@checked
@dataclasses.dataclass(frozen=True)
class Sail:
    area: PositiveInteger
    worn: Share = 0.0
    colours: tuple[str, ...] = ()


@checked
@dataclasses.dataclass(frozen=True)
class Boat:
    name: NotEmpty
    mast: Sail = dataclasses.field(default_factory=lambda: Sail(3))
    crew: PositiveIntegerOrNull = None
    heel: Rate | None = None
    sails: tuple[Sail, ...] = ()

    def __post_init__(self):
        if self.name == "sunk":
            raise ValueError("`name` must float.")


def test_values_are_what_reading_a_file_makes_of_them():
    boat = Boat("a", Sail(2, 1, ["red"]), 4)

    assert boat == from_mapping(
        Boat, {"name": "a", "mast": {"area": 2, "worn": 1, "colours": ["red"]}, "crew": 4}
    )
    assert repr(boat.mast) == "Sail(area=2, worn=1.0, colours=('red',))"
    assert from_saved(Boat, to_mapping(boat)) == boat


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sail(0), "`area` must be a positive integer. Received: area=0."),
        (lambda: Sail(area=0), "`area` must be a positive integer. Received: area=0."),
        (lambda: Sail("2"), "`area` must be an integer. Received: '2'."),
        (lambda: Sail(2, 1.5), "`worn` must be between 0 and 1. Received: worn=1.5."),
        (lambda: Sail(2, 2), "`worn` must be between 0 and 1. Received: worn=2.0."),
        (lambda: Sail(2, math.nan), "`worn` must be between 0 and 1. Received: worn=nan."),
        (lambda: Sail(2, colours=("a", 1)), "`colours[1]` must be a string. Received: 1. In "),
        (lambda: Boat(""), "`name` must not be empty. Received: name=''."),
        (lambda: Boat("a", crew=0), "`crew` must be a positive integer or null. Received: crew=0."),
        (lambda: Boat("a", heel=1), "`heel` must be at least 0 and below 1. Received: heel=1.0."),
        (lambda: Boat("sunk"), "`name` must float."),
        (
            lambda: dataclasses.replace(Boat("a"), crew=-1),
            "`crew` must be a positive integer or null. Received: crew=-1.",
        ),
        (
            lambda: from_mapping(Boat, {"name": "a", "sails": [{"area": 1}, {"area": 0}]}, "b"),
            "b.sails[1]: `area` must be a positive integer. Received: area=0.",
        ),
    ],
)
def test_value_out_of_bounds_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make", [lambda: Sail(), lambda: Sail(1, sheet=2), lambda: Sail(1, 1, (), 1)]
)
def test_arguments_that_no_field_has_are_errors_of_the_program(make):
    with pytest.raises(TypeError):
        make()


def test_what_dataclasses_do_is_kept():
    boat = Boat("a", crew=2)

    assert list(inspect.signature(Boat).parameters) == ["name", "mast", "crew", "heel", "sails"]
    assert pickle.loads(pickle.dumps(boat)) == copy.deepcopy(boat) == boat
    assert hash(boat) == hash(dataclasses.replace(boat))
    assert dataclasses.asdict(boat.mast) == {"area": 3, "worn": 0.0, "colours": ()}
    with pytest.raises(dataclasses.FrozenInstanceError):
        boat.crew = 3


def test_pydantic_is_imported_by_the_first_configuration_alone():
    script = """
import sys
import serving.client, trainer.contract.features as f
assert "pydantic" not in sys.modules
f.Domain("clicked")
assert "pydantic" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
