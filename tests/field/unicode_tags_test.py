"""Tags typed in several ways: composed, decomposed, capital letters, with spaces around."""

import json
import unicodedata

import hypothesis
import hypothesis.strategies as st
import pytest

from serving.client import EventFeatures
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.examples.user_lookup import event_record, find_user, read_catalogue
from tfx_pipeline.runs.tag_file import read_tag_file
from tfx_pipeline.tables.tag_vectors import read_tag_vectors
from tfx_pipeline.versions.pushed_versions import serving_version, tag_normalization_of
from trainer.contract.config_loader import from_mapping, to_mapping
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.history import feature_values
from trainer.contract.signatures import DESCRIPTION_FILE
from trainer.contract.tag_normalization import TagNormalization

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
SPEC = FeatureSpec(domains=(Domain("clicked_tags"),))

# Ways to type a tag, and what it is.
SAME = [
    ([COMPOSED, DECOMPOSED, "CAF\u00c9", "CAFE\u0301", "\u3000Cafe\u0301\u00a0\n"], COMPOSED),
    # The small letter has a form with its mark, the capital has none.
    (["\u01f0azz", "J\u030cAZZ", "j\u030cazz", "J\u030cazz"], "\u01f0azz"),
    # Marks in any order, of one letter.
    (["a\u0323\u0302", "a\u0302\u0323", "\u1ead", "\u00e2\u0323", "A\u0302\u0323"], "\u1ead"),
    # The Turkish capital keeps its dot, and is not the plain letter.
    (["\u0130zmir", "I\u0307zmir"], "i\u0307zmir"),
    (["Izmir", "IZMIR"], "izmir"),
    # A capital sigma at the end is the final one, with a mark or without.
    (["\u039f\u0394\u039f\u03a3", "\u039f\u03b4\u03bf\u03c2"], "\u03bf\u03b4\u03bf\u03c2"),
    # Signs that are letters.
    (["\u212b", "\u00c5", "A\u030a", "a\u030a"], "\u00e5"),
    (["\u2126", "\u03a9"], "\u03c9"),
    # Korean, letter by letter and as syllables.
    (["\u1112\u1161\u11ab", "\ud55c"], "\ud55c"),
    # Nothing is guessed: ligatures, widths and the sharp s stay what they are.
    (["\ufb01lm"], "\ufb01lm"),
    (["\uff2a\uff21\uff3a\uff3a"], "\uff4a\uff41\uff5a\uff5a"),
    (["STRASSE"], "strasse"),
    (["stra\u00dfe", "STRA\u1e9eE"], "stra\u00dfe"),
    # A mark alone is a tag of its own; one behind a blank joins nothing.
    (["\u0301", " \u0301"], "\u0301"),
]

TEXTS = st.text(
    st.one_of(
        st.characters(blacklist_categories=("Cs",)),
        st.sampled_from("AEIJSTaeijst \t\n\r\u00a0\u3000\u0301\u0307\u030c\u0323\u0302\u0345"),
        st.sampled_from("\u0130\u03a3\u03c2\u03f4\u1e9e\u212b\u2126\u1112\u1161\u11ab\u0f73"),
    ),
    max_size=8,
)
SWITCHES = st.builds(TagNormalization, st.booleans(), st.booleans(), st.booleans())


@pytest.mark.parametrize(("typed", "expected"), SAME)
def test_tag_is_one_however_it_was_typed(typed, expected):
    assert TagNormalization().apply(typed) == [expected] * len(typed)


def test_forms_stay_apart_where_the_configuration_says_so():
    typed = [COMPOSED, DECOMPOSED, "CAFE\u0301"]

    assert TagNormalization(nfc=False).apply(typed) == [COMPOSED, DECOMPOSED, DECOMPOSED]


@hypothesis.settings(max_examples=500)
@hypothesis.given(TEXTS, SWITCHES)
def test_normalised_tag_stays_as_it_is(tag, normalization):
    once = normalization.apply([tag])

    assert normalization.apply(once) == once


@hypothesis.settings(max_examples=500)
@hypothesis.given(TEXTS, st.booleans(), st.booleans())
def test_canonical_equivalents_are_one_tag(tag, trim, lowercase):
    normalization = TagNormalization(trim, lowercase)
    forms = [tag, unicodedata.normalize("NFC", tag), unicodedata.normalize("NFD", tag)]

    assert len(set(normalization.apply(forms))) == 1


@hypothesis.given(st.text(st.characters(max_codepoint=127)))
def test_ascii_tag_is_as_it_was_before_there_were_forms(tag):
    hypothesis.assume("\n" not in tag and "\r" not in tag)

    assert TagNormalization().apply([tag]) == [tag.strip().lower()]


# --- older versions ---

# The value in `tagtower.json`, now and in versions before the key.
DESCRIPTIONS = [
    ({"trim": True, "lowercase": True, "nfc": True}, COMPOSED),
    ({"trim": True, "lowercase": True}, DECOMPOSED),
    ({"trim": True, "lowercase": False}, "CAFE\u0301"),
    ({"trim": True, "lowercase": True, "nfc": False}, DECOMPOSED),
]


@pytest.fixture
def push(tmp_path):
    """Writes the description of a version that serves; returns its folder."""

    def written(description):
        folder = tmp_path / "run" / "serving" / "7"
        (folder / DESCRIPTION_FILE).parent.mkdir(parents=True)
        (folder / "saved_model.pb").touch()
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description))
        return folder

    return written


@pytest.fixture
def config_path(tmp_path):
    """Writes a current configuration over a log with one decomposed tag."""
    tables = {
        "items": [{"item_id": "i", "tags": [" CAFE\u0301"], "category": ""}],
        "interactions": [{"user_id": "u", "item_id": "i", "timestamp": 100, "clicked": 1}],
        "users": [{"user_id": "u"}],
    }
    data = {}
    for name, rows in tables.items():
        data[name] = str(tmp_path / f"{name}.jsonl")
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    path = tmp_path / "config.yaml"
    mapping = {"name": "log", "output": str(tmp_path / "run"), "data": data}
    path.write_text(json.dumps({**mapping, "features": to_mapping(SPEC)}))
    return str(path)


@pytest.mark.parametrize(("saved", "expected"), DESCRIPTIONS)
def test_caller_spells_tags_as_the_version_was_trained(push, saved, expected):
    folder = push({"features": to_mapping(SPEC), "tag_normalization": saved})
    event = {"item_id": "i", "timestamp": 100, "clicked": 1, "tags": [" CAFE\u0301 "]}

    features = EventFeatures.load(folder)

    assert features.instance([event], at=200)["clicked_tags"] == [expected]


@pytest.mark.parametrize(("saved", "expected"), DESCRIPTIONS)
def test_query_spells_tags_as_the_version_that_serves(push, config_path, saved, expected):
    push({"tag_normalization": saved})
    config = load_config(config_path)

    found = find_user(config, "u")

    assert feature_values(found.events, None, 200, SPEC)["clicked_tags"] == [expected]
    catalogue = read_catalogue(config)
    row = {"item_index": 0, "item_id": "i", "timestamp": 1, "clicked": 1, "weight": 1.0}
    assert event_record(row, catalogue)["tags"] == [expected]


@pytest.mark.parametrize("description", [None, {}, {"features": {}}])
def test_without_a_version_that_says_so_the_configuration_decides(push, config_path, description):
    if description is not None:
        push(description)
    config = load_config(config_path)

    assert read_catalogue(config).tags.values_of(0) == [COMPOSED]
    version = serving_version(config.base_path)
    assert version is None or tag_normalization_of(version) is None


# --- all that names a tag ---


@pytest.mark.parametrize(("nfc", "expected"), [(True, [COMPOSED]), (False, [COMPOSED, DECOMPOSED])])
def test_configured_form_decides_what_is_one_tag(nfc, expected):
    tables = {"interactions": "i", "items": "t", "users": "u"}
    data = from_mapping(DataConfig, {**tables, "tag_normalization": {"nfc": nfc}})
    typed = [COMPOSED, DECOMPOSED]

    assert sorted(set(data.tag_normalization.apply(typed))) == sorted(expected)


def test_tag_file_is_compared_in_the_form_of_the_towers(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text(f"tag,retired\n{DECOMPOSED.upper()},true\n", encoding="utf-8")
    data = DataConfig("i", "t", "u")

    assert [row.tag for row in read_tag_file(str(path), data).rows] == [COMPOSED]
    older = TagNormalization.of_version({"trim": True, "lowercase": True}, "tag_normalization")
    assert [row.tag for row in read_tag_file(str(path), data, older).rows] == [DECOMPOSED]


def test_vectors_are_of_the_composed_tag_and_no_tag_has_two(tmp_path):
    path = tmp_path / "vectors.csv"
    path.write_text(f"tag,vector\n{DECOMPOSED},1|2\n", encoding="utf-8")
    data = DataConfig("i", "t", "u")

    assert read_tag_vectors(data, str(path))[0] == [COMPOSED]
    path.write_text(f"tag,vector\n{DECOMPOSED},1|2\n{COMPOSED},1|2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must have a tag that no other row has"):
        read_tag_vectors(data, str(path))
