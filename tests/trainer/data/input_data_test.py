import numpy as np
import pytest
import tensorflow_transform as tft

from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.data.input_data import load_vocabularies, tag_frequencies
from trainer.data.snapshots import Snapshots


def snapshots_of(**lists):
    """Returns snapshots with these lists of ids, one user for each."""
    return Snapshots(
        {},
        {
            name: ListValues(np.concatenate(rows).astype(np.int32), offsets_of(rows))
            for name, rows in lists.items()
        },
    )


def offsets_of(rows):
    return np.cumsum([0, *map(len, rows)])


SPEC = f.FeatureSpec(
    domains=(f.Domain("clicked"), f.Domain("apart", vocabulary="others")),
)


def test_frequencies_count_labels_impressions_and_the_domains_of_tags():
    snapshots = snapshots_of(
        label_tags=[[0, -1], [2]],  # -1: out of vocabulary
        impression_tags=[[], [2, 2]],
        clicked=[[1, 3], [0]],  # 3: a hash bucket
        apart=[[1, 1, 1], []],
    )

    np.testing.assert_array_equal(tag_frequencies(snapshots, SPEC, 3), [2, 1, 3])


def test_tag_that_no_example_has_is_refused():
    snapshots = snapshots_of(label_tags=[[0]], impression_tags=[[]], clicked=[[2]])

    with pytest.raises(ValueError, match=r"have every tag of the vocabulary.*\[1\]"):
        tag_frequencies(snapshots, SPEC, 3)


def test_vocabularies_are_those_that_the_features_name_in_order_of_their_ids(tmp_path):
    assets = tmp_path / tft.TFTransformOutput.TRANSFORM_FN_DIR / "assets"
    assets.mkdir(parents=True)
    (assets / f.TAG_VOCABULARY).write_text("new age\nseñal\n", encoding="utf-8")
    (assets / "category").write_text("jazz\npop\n", encoding="utf-8")
    (assets / "profile_age").write_text("old\n", encoding="utf-8")
    (assets / "unused").write_text("x\n", encoding="utf-8")
    spec = f.FeatureSpec(
        profile=(f.ProfileFeature("age"),), domains=(f.Domain("seen", attribute="category"),)
    )

    assert load_vocabularies(tft.TFTransformOutput(str(tmp_path)), spec) == {
        "tags": ["new age", "señal"],
        "category": ["jazz", "pop"],
        "profile_age": ["old"],
    }
