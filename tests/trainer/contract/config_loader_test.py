import dataclasses
from typing import Literal

import pytest

from trainer.contract.config_loader import RemovedKey, from_mapping, from_saved, require, to_mapping


@dataclasses.dataclass(frozen=True)
class Wheel:
    REMOVED_KEYS = {
        "spokes": RemovedKey("Leave it out: a wheel has 32 spokes.", 32),
        "valve": RemovedKey("Every valve fits."),
    }

    radius: float = 1.0
    kind: Literal["road", "track"] = "road"

    def __post_init__(self):
        require(self.radius > 0, "radius", "be positive", self.radius)


@dataclasses.dataclass(frozen=True)
class Bicycle:
    name: str
    gears: int = 3
    is_fast: bool = False
    price: float | None = None
    colours: tuple[str, ...] = ()
    front: Wheel = dataclasses.field(default_factory=Wheel)
    wheels: tuple[Wheel, ...] = ()
    by_name: dict[str, Wheel] = dataclasses.field(default_factory=dict)


FULL = {
    "name": "b",
    "gears": 7,
    "is_fast": True,
    "price": 9,
    "colours": ["red"],
    "front": {"radius": 2},
    "wheels": [{"kind": "track"}, {}],
    "by_name": {"spare": {"radius": 0.5}},
}


def test_values_of_every_kind_are_read():
    assert from_mapping(Bicycle, FULL) == Bicycle(
        name="b",
        gears=7,
        is_fast=True,
        price=9.0,
        colours=("red",),
        front=Wheel(2.0),
        wheels=(Wheel(kind="track"), Wheel()),
        by_name={"spare": Wheel(0.5)},
    )
    assert isinstance(from_mapping(Bicycle, FULL).front.radius, float)


def test_defaults_fill_what_is_not_named():
    assert from_mapping(Bicycle, {"name": "b", "price": None, "front": None}) == Bicycle("b")


def test_mapping_and_back_gives_the_same():
    bicycle = from_mapping(Bicycle, FULL)
    assert from_mapping(Bicycle, to_mapping(bicycle)) == bicycle
    assert to_mapping(bicycle)["wheels"] == [
        {"radius": 1.0, "kind": "track"},
        {"radius": 1.0, "kind": "road"},
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gaers": 3}, "`gaers` is not a known key. Did you mean `gears`?"),
        ({"xyzzy": 3}, "`xyzzy` is not a known key. Known keys: name, gears, is_fast, price, "),
        ({"front": {"radios": 1}}, "`front.radios` is not a known key. Did you mean `radius`?"),
        ({"wheels": [{}, {"radios": 1}]}, "`wheels[1].radios` is not a known key."),
        ({"by_name": {"spare": {"radios": 1}}}, "`by_name.spare.radios` is not a known key."),
        ({"gears": "3"}, "`gears` must be an integer. Received: '3'."),
        ({"gears": 3.0}, "`gears` must be an integer. Received: 3.0."),
        ({"gears": True}, "`gears` must be an integer. Received: True."),
        ({"gears": None}, "`gears` must be an integer. Received: None."),
        ({"price": "9"}, "`price` must be a number. Received: '9'."),
        ({"price": False}, "`price` must be a number. Received: False."),
        ({"is_fast": 1}, "`is_fast` must be true or false. Received: 1."),
        ({"is_fast": "yes"}, "`is_fast` must be true or false. Received: 'yes'."),
        ({"name": 5}, "`name` must be a string. Received: 5."),
        ({"colours": "red"}, "`colours` must be a list. Received: 'red'."),
        ({"colours": ["red", 5]}, "`colours[1]` must be a string. Received: 5."),
        ({"front": 2}, "`front` must be a mapping of keys to values. Received: 2."),
        ({"front": []}, "`front` must be a mapping of keys to values. Received: []."),
        ({"wheels": {"radius": 1}}, "`wheels` must be a list."),
        ({"by_name": [1]}, "`by_name` must be a mapping. Received: [1]."),
        ({"front": {"kind": "mud"}}, "`front.kind` must be one of road, track. Received: 'mud'."),
        ({"front": {"kind": ["road"]}}, "`front.kind` must be one of road, track."),
        ({"front": {"radius": 0}}, "front: `radius` must be positive. Received: radius=0.0."),
        ({"wheels": [{}, {"radius": -1}]}, "wheels[1]: `radius` must be positive."),
        ({"by_name": {"spare": {"radius": 0}}}, "by_name.spare: `radius` must be positive."),
    ],
)
def test_wrong_value_is_refused_with_its_dotted_path(change, message):
    mapping = {"name": "b", **change}
    with pytest.raises(ValueError) as error:
        from_mapping(Bicycle, mapping)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("spokes", [32, 36])
def test_removed_key_of_a_user_is_refused_whatever_its_value(spokes):
    with pytest.raises(
        ValueError,
        match=r"^`wheels\[0\].spokes` is no longer a key. Leave it out: a wheel has 32 spokes.$",
    ):
        from_mapping(Bicycle, {"name": "b", "wheels": [{"spokes": spokes}]})


SAVED = {
    "name": "b",
    "front": {"radius": 2.0, "spokes": 32},
    "wheels": [{"spokes": 32}],
    "by_name": {"spare": {"spokes": 32.0}},
}


def test_saved_mapping_may_have_removed_keys_with_the_value_that_is_built_in():
    assert from_saved(Bicycle, SAVED) == Bicycle(
        name="b", front=Wheel(2.0), wheels=(Wheel(),), by_name={"spare": Wheel()}
    )


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ({"spokes": 36}, "`front.spokes` is no longer a key. Leave it out: a wheel has 32 spokes."),
        ({"valve": None}, "`front.valve` is no longer a key. Every valve fits."),
        ({"valve": "long"}, "`front.valve` is no longer a key. Every valve fits."),
        ({"spokse": 32}, "`front.spokse` is not a known key. Known keys: radius, kind."),
    ],
)
def test_saved_mapping_is_read_as_strictly_otherwise(front, message):
    with pytest.raises(ValueError) as error:
        from_saved(Bicycle, {**SAVED, "front": front})
    assert str(error.value) == message


def test_missing_key_is_named():
    with pytest.raises(ValueError, match="^`garage.name` is missing and has no default.$"):
        from_mapping(Bicycle, {}, "garage")


@pytest.mark.parametrize("mapping", [5, "text", ["a"]])
def test_what_is_no_mapping_is_refused(mapping):
    with pytest.raises(ValueError, match="^the configuration must be a mapping of keys to values"):
        from_mapping(Bicycle, mapping)


def test_require_has_the_one_form_of_errors():
    require(True, "k", "be a positive integer", 1)
    with pytest.raises(ValueError, match="^`k` must be a positive integer. Received: k=0.$"):
        require(False, "k", "be a positive integer", 0)
