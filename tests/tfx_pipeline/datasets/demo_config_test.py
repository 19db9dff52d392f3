"""Options out of range are refused by name; every option is documented."""

import dataclasses

import pytest

from tfx_pipeline.datasets.demo_config import DemoConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_users", 0),
        ("num_users", 2.5),
        ("num_users", True),
        ("events_per_user", -1),
        ("seed", -1),
        ("cold_user_fraction", 1.5),
        ("exposure_share", "half"),
        ("click_probability", float("nan")),
        ("popularity_skew", -0.1),
        ("driving_tag", "second"),
        ("exposure", "none"),
        ("repeats", "always"),
        ("repeat_share", 1.5),
        ("num_items", 1999),
        ("max_tags_per_item", 2),
        ("max_categories_per_user", 41),
        ("num_tags", 400),
        ("interests_per_user", 30),
        ("end_time", 1_704_067_201),
    ],
)
def test_option_out_of_range_is_refused_by_name(name, value):
    # 30 interests need more tags, and the message names what to raise.
    named = "num_tags" if name == "interests_per_user" else name
    with pytest.raises(ValueError, match=rf"^`{named}` must be .*\. Received: {named}="):
        DemoConfig(**{name: value})


@pytest.mark.parametrize("name", ["exposure_share", "cross_exposure_share"])
def test_blind_exposure_leaves_as_large_a_share_to_the_stranger(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at most 0.5 where `exposure` is blind"):
        DemoConfig(**{"exposure": "blind", name: 0.6})
    assert DemoConfig(**{name: 0.6})


def test_who_never_repeats_has_no_share_of_repeats():
    with pytest.raises(ValueError, match="`repeat_share` must be 0 where `repeats` is never"):
        DemoConfig(repeats="never", repeat_share=0.1)


def test_every_option_is_documented():
    for field in dataclasses.fields(DemoConfig):
        assert f"\n      {field.name}: " in DemoConfig.__doc__, field.name
