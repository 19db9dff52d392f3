"""Names are readable, lower-case and distinct, however many are needed."""

from tfx_pipeline.datasets.tag_names import category_names, tag_names


def test_names_are_two_words_while_words_last():
    categories = category_names(40)
    names = tag_names([i % 40 for i in range(2000)], categories)
    assert len(set(names)) == 2000
    assert len(set(categories)) == 40
    assert names[0] == "jazz guitar"
    assert all(len(name.split()) == 2 and name == name.lower().strip() for name in names)


def test_names_stay_distinct_when_words_run_out():
    categories = category_names(100)
    names = tag_names([i % 100 for i in range(20_000)], categories)
    assert len(set(categories)) == 100
    assert len(set(names)) == 20_000
    assert len(set(names) | set(categories)) == 20_100
    assert "jazz guitar 002" in names
