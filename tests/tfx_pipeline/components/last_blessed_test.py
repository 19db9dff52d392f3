"""The last blessed model is another one than the model under evaluation."""

from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from tfx_pipeline.components.last_blessed import LatestOtherBlessedModelStrategy


def model(number):
    made = standard_artifacts.Model()
    made.id = number
    return made


def blessing(number, is_blessed=True, at=None):
    made = standard_artifacts.ModelBlessing()
    made.id = 100 + number if at is None else at
    made.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(is_blessed))
    made.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, number)
    return made


def resolve(current, models, blessings):
    resolved = LatestOtherBlessedModelStrategy().resolve_artifacts(
        None, {"current": [model(current)], "model": models, "model_blessing": blessings}
    )
    return [artifact.id for artifact in resolved["model"]]


def test_first_run_has_no_baseline():
    assert resolve(1, [model(1)], []) == []


def test_unchanged_second_run_is_not_compared_with_itself():
    assert resolve(1, [model(1)], [blessing(1)]) == []


def test_latest_other_blessed_model_is_the_baseline():
    models = [model(1), model(2), model(3), model(4)]

    assert resolve(4, models, [blessing(1), blessing(2), blessing(3, is_blessed=False)]) == [2]


def test_model_blessed_again_counts_from_its_last_verdict():
    models = [model(1), model(2), model(3)]
    blessings = [blessing(1, at=11), blessing(2, at=12), blessing(1, at=13)]

    assert resolve(3, models, blessings) == [1]


def test_model_refused_later_is_blessed_no_more():
    models = [model(1), model(2), model(3)]
    blessings = [blessing(1, at=11), blessing(2, at=12), blessing(2, False, at=13)]

    assert resolve(3, models, blessings) == [1]
