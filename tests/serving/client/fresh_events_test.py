"""Fresh events to instances, by the description of a version.

That they equal the pipeline's is in `tests/tfx_pipeline/examples/user_lookup_test.py`.
"""

import re
import shutil
import subprocess
import sys

import pytest

from serving.client import EventFeatures, TagClient
from tests.serving.client.listening_towers import SPEC
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature
from trainer.contract.signatures import DESCRIPTION_FILE
from trainer.contract.tag_normalization import TagNormalization

NOW = 1_700_000_000


def event(seconds_ago=10, **others):
    return {"item_id": "i1", "timestamp": NOW - seconds_ago, "clicked": 1, "tags": []} | others


@pytest.fixture
def features(version_dir):
    return EventFeatures.load(version_dir)


def test_description_of_a_version_is_read_from_folder_or_file(version_dir, tmp_path, features):
    copied = shutil.copy(version_dir / DESCRIPTION_FILE, tmp_path / "copied.json")

    assert features == EventFeatures(SPEC, TagNormalization())
    assert EventFeatures.load(str(copied)) == features


def test_features_are_computed_without_tensorflow(version_dir):
    code = f"""
import sys
from serving.client import EventFeatures, TagClient
event = {{"item_id": "i", "timestamp": 5, "clicked": 1, "tags": ["Jazz"]}}
print(EventFeatures.load({str(version_dir)!r}).instance([event])["clicked_tags"])
heavy = {{"tensorflow", "tensorflow_serving", "tf_keras", "keras", "tfx", "apache_beam", "pyarrow"}}
print(sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert finished.stdout.splitlines() == ["['jazz']", "[]"], finished.stderr


def test_events_become_features_with_tags_as_the_log_had_them(features):
    events = [
        event(5, item_id="i2", tags=["folk"], weight=0.5),
        event(10, tags=[" Jazz", "FOLK", "jazz ", "  "]),
        event(20, tags=["Jazz"]),
        event(30, tags=["metal"], clicked=0),
        event(0, tags=["techno"]),
    ]

    instance = features.instance(events, {"country": "at"}, NOW)

    assert instance == {
        "country": "at",
        "clicked_tags": ["folk", "jazz"],
        "clicked_tags_weights": [2.0, 2.0],
    }


@pytest.mark.parametrize("tags", [[], ["  "], None])
def test_event_of_an_item_without_tags_is_left_out_as_it_was_of_the_examples(tags):
    domains = (Domain("clicked_tags"), Domain("clicked_items", attribute="item_id"))
    features = EventFeatures(FeatureSpec(domains=domains), TagNormalization())

    instance = features.instance([event(tags=tags), event(tags=["jazz"], item_id="i2")], at=NOW)

    assert instance["clicked_items"] == ["i2"] and instance["clicked_tags"] == ["jazz"]


def test_tags_that_no_domain_lists_need_not_be_given():
    spec = FeatureSpec(domains=(Domain("clicked_items", attribute="item_id"),))
    without_tags = {key: value for key, value in event().items() if key != "tags"}

    instance = EventFeatures(spec, TagNormalization()).instance([without_tags], at=NOW)

    assert instance["clicked_items"] == ["i1"]


def test_normalisation_is_that_of_the_version():
    features = EventFeatures(SPEC, TagNormalization(trim=True, lowercase=False))

    assert features.instance([event(tags=[" Jazz"])], at=NOW)["clicked_tags"] == ["Jazz"]


def test_without_a_time_it_is_now(features):
    in_2100 = {**event(tags=["folk"]), "timestamp": 4_102_444_800}

    instance = features.instance([event(tags=["jazz"]), in_2100])

    assert instance["clicked_tags"] == ["jazz"]


def test_user_of_whom_nothing_is_known_has_an_instance(features):
    assert features.instance([]) == {
        "country": "",
        "clicked_tags": [],
        "clicked_tags_weights": [],
    }


def test_fresh_events_go_in_and_tags_come_out(features, target):
    events = [event(5, tags=["METAL"]), event(9, tags=["metal"], clicked=0)]
    with TagClient(target, timeout_s=60) as client:
        (profile,) = client.retrieve([features.instance(events, at=NOW)]).profiles

    # [1, 0, 0] of nowhere and [0, 4, 0] of metal.
    assert profile.tags == ("metal", "techno", "jazz")
    assert profile.scores == (16.0, 8.0, 7.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tags": "jazz"}, "`tags` must be a list of strings. Received: tags='jazz'."),
        ({"tags": [7]}, "`tags` must be a list of strings. Received: tags=[7]."),
        ({"category": 7}, '`category` must be a string, "" where unknown. Received: category=7.'),
        ({"item_id": 1.5}, "`item_id` must be text or a whole number. Received: item_id=1.5."),
        ({"clicked": "yes"}, "`clicked` must be 0 or 1. Received: clicked='yes'."),
        (
            {"timestamp": "soon"},
            "`timestamp` must be seconds since 1970, UTC (or ms, us, ns, or ISO 8601). "
            "Received: timestamp='soon'.",
        ),
        ({"weight": -2}, "`weight` must be a number, 0 or more. Received: weight=-2."),
    ],
)
def test_event_with_a_wrong_value_is_refused(features, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        features.instance([event(tags=["jazz"]), event(**wrong)], at=NOW)


def test_event_without_what_a_feature_lists_is_refused():
    domains = (Domain("clicked_tags"), Domain("categories", attribute="category"))
    features = EventFeatures(FeatureSpec(domains=domains), TagNormalization())
    without_tags = {key: value for key, value in event().items() if key != "tags"}

    with pytest.raises(ValueError, match="have the tags of their item, which `clicked_tags` lists"):
        features.instance([without_tags])
    with pytest.raises(ValueError, match="have the category of their item, which `categories`"):
        features.instance([event()])
    assert features.instance([event(category="")], at=NOW)["categories"] == []


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (
            {"contry": "at"},
            "`profile` must name profile features (country). Received: profile='contry'.",
        ),
        ({"country": 7}, '`country` must be a string, "" where unknown. Received: country=7.'),
    ],
)
def test_profile_with_a_wrong_name_or_value_is_refused(features, profile, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        features.instance([], profile)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "`path` must be the folder of a pushed version, or its assets.extra/tagtower.json"),
        ("{", "`path` must be the folder of a pushed version, or its assets.extra/tagtower.json"),
        ("[]", "`path` must name a description with the key `features`"),
        ('{"features": {"domains": [{"name": "a"}]}}', "with the key `tag_normalization`"),
        ('{"features": {"domain": []}, "tag_normalization": {}}', "`features.domain` is not a"),
    ],
)
def test_file_that_describes_no_features_is_refused(tmp_path, content, message):
    path = tmp_path / "tagtower.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ValueError, match=message):
        EventFeatures.load(path)
    with pytest.raises(ValueError, match=message if content is None else "No such file"):
        EventFeatures.load(tmp_path)


def test_features_of_a_version_with_more_of_them_are_made_as_it_says():
    spec = FeatureSpec(
        history_window_days=10.0,
        profile=(ProfileFeature("country"), ProfileFeature("device")),
        domains=(
            Domain("skipped", events="skipped", max_values=1),
            Domain("recent", window_days=1.0, weighting="recency", half_life_days=1.0),
            Domain("items", attribute="item_id"),
        ),
    )
    features = EventFeatures(spec, TagNormalization())
    day = 86_400
    events = [
        event(day // 2, tags=["Jazz"]),
        event(2 * day, item_id="i2", tags=["jazz"]),
        event(11 * day, item_id="i3", tags=["jazz"]),
        event(5, clicked=0, tags=["pop", "folk"]),
        event(6, clicked=0, tags=["pop"]),
    ]

    assert features.instance(events, {"device": "tv"}, NOW) == {
        "country": "",
        "device": "tv",
        "skipped": ["pop"],
        "skipped_weights": [2.0],
        "recent": ["jazz"],
        "recent_weights": [pytest.approx(0.5**0.5)],
        "items": ["i1", "i2"],
        "items_weights": [1.0, 1.0],
    }
