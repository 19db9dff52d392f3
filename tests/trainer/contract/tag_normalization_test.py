import pytest

from trainer.contract.tag_normalization import TagNormalization


@pytest.mark.parametrize(
    ("trim", "lowercase", "expected"),
    [
        (True, True, ["jazz", "", "οδος"]),
        (True, False, ["Jazz", "", "ΟΔΟΣ"]),
        (False, True, [" jazz\u2003", "\t", "οδος"]),
        (False, False, [" Jazz\u2003", "\t", "ΟΔΟΣ"]),
    ],
)
def test_tags_are_trimmed_and_lowercased_as_told(trim, lowercase, expected):
    assert TagNormalization(trim, lowercase).apply([" Jazz\u2003", "\t", "ΟΔΟΣ"]) == expected


def test_normalised_tag_stays_as_it_is():
    normalization = TagNormalization()
    every_letter = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    once = normalization.apply(every_letter)

    assert normalization.apply(once) == once
    assert normalization.apply(iter(["A", "b"])) == ["a", "b"]
