import numpy as np
import pytest
import tensorflow_transform as tft

from trainer import features as f
from trainer.input_data import load_tag_frequencies, load_vocabularies


def transform_output(folder, tags, frequencies):
    assets = folder / tft.TFTransformOutput.TRANSFORM_FN_DIR / "assets"
    assets.mkdir(parents=True)
    for name, lines in (
        (f.TAG_VOCABULARY, tags),
        (f.frequency_name(f.TAG_VOCABULARY), frequencies),
    ):
        (assets / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tft.TFTransformOutput(str(folder))


def test_frequencies_follow_the_ids_and_not_the_order_of_their_file(tmp_path):
    output = transform_output(
        tmp_path, ["new age", "señal", "a  b "], ["7 a  b ", "7 new age", "3 señal"]
    )
    np.testing.assert_array_equal(load_tag_frequencies(output), [7, 3, 7])


def test_tag_without_a_frequency_is_refused(tmp_path):
    output = transform_output(tmp_path, ["pop", "jazz"], ["7 pop"])
    with pytest.raises(ValueError, match=r"must know how often each tag occurs.*\['jazz'\]"):
        load_tag_frequencies(output)


def test_vocabularies_are_those_that_the_features_name_in_order_of_their_ids(tmp_path):
    output = transform_output(tmp_path, ["new age", "señal"], ["7 new age", "3 señal"])
    assets = tmp_path / tft.TFTransformOutput.TRANSFORM_FN_DIR / "assets"
    (assets / "category").write_text("jazz\npop\n", encoding="utf-8")
    (assets / "profile_age").write_text("old\n", encoding="utf-8")
    (assets / "unused").write_text("x\n", encoding="utf-8")
    spec = f.FeatureSpec(
        profile=(f.ProfileFeature("age"),), domains=(f.Domain("seen", attribute="category"),)
    )

    assert load_vocabularies(output, spec) == {
        "tags": ["new age", "señal"],
        "category": ["jazz", "pop"],
        "profile_age": ["old"],
    }
