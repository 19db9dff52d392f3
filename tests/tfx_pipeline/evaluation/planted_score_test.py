"""The lists that are compared with planted interests, from raw examples."""

import tensorflow as tf

from tfx_pipeline.evaluation.planted_score import _most_clicked, _most_shown


def example(**lists):
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))
        if values and isinstance(values[0], str)
        else tf.train.Feature(float_list=tf.train.FloatList(value=values))
        for name, values in lists.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_shown_is_clicked_and_skipped_together():
    serialized = example(
        history_tags=["a", "b", "c"],
        history_tags_counts=[2.0, 1.0, 1.0],
        skipped=["b", "d"],
        skipped_weights=[3.0, 2.0],
    )

    assert _most_clicked(serialized) == ["a", "b", "c"]
    assert _most_shown(serialized, "skipped") == ["b", "a", "d", "c"]


def test_user_without_events_has_no_list():
    assert _most_shown(example(), "skipped") == []
