import dataclasses

import pytest

from tagtower_client.event_rows import EVENT_LISTS, FLAT_EVENTS
from tagtower_client.signature_rows import Kind
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.config_loader import from_mapping, to_mapping

SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("gender"),),
    domains=(
        f.Domain("clicked"),
        f.Domain("recent", vocabulary="recent_tags"),
        f.Domain("items", attribute="item_id"),
    ),
    vocabularies={"item_id": f.Vocabulary(max_size=5)},
)


def test_raw_names_list_profile_first_and_weights_beside_their_domain():
    assert SPEC.raw_names == (
        "gender",
        "clicked",
        "clicked_weights",
        "recent",
        "recent_weights",
        "items",
        "items_weights",
    )


def test_vocabulary_is_the_attribute_unless_named():
    assert [domain.vocabulary_name for domain in SPEC.domains] == ["tags", "recent_tags", "item_id"]


def test_vocabulary_limits_fall_back_to_the_defaults():
    assert SPEC.vocabulary("item_id") == f.Vocabulary(max_size=5)
    assert SPEC.vocabulary("tags") == f.Vocabulary()


def test_names_of_labels_and_of_signature_inputs_are_all_reserved():
    names = {
        value
        for key, value in vars(f).items()
        if key.startswith(("LABEL_", "IMPRESSION_", "HISTORY_"))
        or key in ("USER_ID", "SNAPSHOT_TIME")
    }
    inputs = {s.EXAMPLES, s.CANDIDATE_TAGS, s.ITEM_TAGS, s.EXPLAINED_TAG, s.QUERY_EMBEDDINGS}
    inputs |= {s.EXCLUDE_TAGS, s.ALLOW_CATEGORIES, s.SIMILAR_TO}
    events = [row for row in (*EVENT_LISTS, *FLAT_EVENTS) if row.kind is Kind.ONE]
    inputs |= {row.name for row in events}
    assert names | inputs == f.RESERVED_NAMES


def test_domain_whose_weights_would_overwrite_a_label_is_refused():
    # Its weights would be `impression_weights`.
    with pytest.raises(ValueError, match="impression_weights"):
        f.Domain("impression")


def test_spec_survives_the_way_through_a_mapping():
    assert from_mapping(f.FeatureSpec, to_mapping(SPEC)) == SPEC


@pytest.mark.parametrize("cls", [f.ProfileFeature, f.Domain, f.Vocabulary, f.FeatureSpec])
def test_every_option_is_documented(cls):
    for field in dataclasses.fields(cls):
        assert f"\n      {field.name}: " in cls.__doc__


@pytest.mark.parametrize("name", ["", "two words", "1st", "a-b", "a.b"])
@pytest.mark.parametrize("cls", [f.ProfileFeature, f.Domain])
def test_name_that_is_no_identifier_is_refused(cls, name):
    with pytest.raises(ValueError, match="`name` must be a letter followed by letters") as error:
        cls(name)
    assert str(error.value).endswith(f"Received: name={name!r}.")


@pytest.mark.parametrize("name", ["label_tags", "history_tags", "user_id", "snapshot_time"])
@pytest.mark.parametrize("cls", [f.ProfileFeature, f.Domain])
def test_name_of_a_label_is_refused(cls, name):
    with pytest.raises(ValueError, match="`name` must not be a name reserved for labels"):
        cls(name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_values": 0}, "`max_values` must be a positive integer. Received: max_values=0."),
        ({"half_life_days": 0.0}, "`half_life_days` must be positive."),
        ({"half_life_days": -1.0}, "`half_life_days` must be positive."),
        ({"window_days": 0.0}, "`window_days` must be positive or null."),
        ({"window_days": -2.0}, "`window_days` must be positive or null."),
        ({"last_events": 0}, "`last_events` must be a positive integer or null."),
    ],
)
def test_impossible_domains_are_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        f.Domain("d", **wrong)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_size": 0}, "`max_size` must be a positive integer or null."),
        ({"min_frequency": 0}, "`min_frequency` must be a positive integer."),
        ({"num_oov_buckets": 0}, "`num_oov_buckets` must be at least 1."),
    ],
)
def test_impossible_vocabularies_are_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        f.Vocabulary(**wrong)
    assert message in str(error.value)


def test_profile_feature_without_a_bucket_for_the_unseen_is_refused():
    with pytest.raises(ValueError, match="`num_oov_buckets` must be at least 1"):
        f.ProfileFeature("age", num_oov_buckets=0)


def test_spec_without_any_feature_is_refused():
    with pytest.raises(ValueError, match="`domains` must name at least one domain or profile"):
        f.FeatureSpec()


def test_history_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`history_window_days` must be positive or null"):
        f.FeatureSpec(history_window_days=0.0, domains=(f.Domain("d"),))


@pytest.mark.parametrize(
    ("profile", "domains", "repeated"),
    [
        ((), ("d", "d"), "d"),
        (("d",), ("d",), "d"),
        (("d_weights",), ("d",), "d_weights"),
        ((), ("d", "d_weights"), "d_weights"),
    ],
)
def test_names_that_collide_are_refused(profile, domains, repeated):
    columns = {
        "profile": tuple(f.ProfileFeature(name) for name in profile),
        "domains": tuple(f.Domain(name) for name in domains),
    }
    with pytest.raises(ValueError, match="`domains` must have different names") as error:
        f.FeatureSpec(**columns)
    assert repeated in str(error.value)


def test_limits_of_a_vocabulary_that_nobody_uses_are_refused():
    limits = {"itme_id": f.Vocabulary()}
    domains = (f.Domain("items", attribute="item_id"),)
    with pytest.raises(ValueError) as error:
        f.FeatureSpec(domains=domains, vocabularies=limits)
    assert "`vocabularies` must name vocabularies in use (item_id, tags)" in str(error.value)
    assert "itme_id" in str(error.value).split("Received")[1]


def test_tag_vocabulary_may_always_be_limited():
    domains = (f.Domain("items", attribute="item_id"),)
    spec = f.FeatureSpec(domains=domains, vocabularies={"tags": f.Vocabulary(max_size=9)})
    assert spec.vocabulary(f.TAG_VOCABULARY).max_size == 9


def test_domain_of_items_may_not_share_the_vocabulary_of_the_labels():
    domains = (f.Domain("items", attribute="item_id", vocabulary="tags"),)
    with pytest.raises(ValueError, match="`vocabulary` must not be `tags` for a domain that"):
        f.FeatureSpec(domains=domains)
