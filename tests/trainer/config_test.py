import dataclasses

import pytest

from trainer.config import ModelConfig, TrainingConfig
from trainer.contract.config_loader import from_mapping, to_mapping


@pytest.mark.parametrize("cls", [ModelConfig, TrainingConfig])
def test_defaults_survive_the_way_through_a_mapping(cls):
    assert from_mapping(cls, to_mapping(cls())) == cls()


@pytest.mark.parametrize("cls", [ModelConfig, TrainingConfig])
def test_every_option_is_documented(cls):
    for field in dataclasses.fields(cls):
        assert f"\n      {field.name}: " in cls.__doc__


@pytest.mark.parametrize(
    "wrong,message",
    [
        ({"embedding_dim": 0}, "`embedding_dim` must be a positive integer. Received: "),
        ({"num_heads": -1}, "`num_heads` must be a positive integer. Received: "),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1. Received: dropout=1.0."),
        ({"domain_dropout": -0.1}, "`domain_dropout` must be at least 0"),
        (
            {"share_tag_embeddings": True, "embedding_dim": 8, "output_dim": 4},
            "`share_tag_embeddings` must be false unless `embedding_dim` equals `output_dim`",
        ),
    ],
)
def test_impossible_models_are_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        ModelConfig(**wrong)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "wrong,message",
    [
        (
            {"joint_weight": -1.0},
            "`joint_weight` must be 0 or positive. Received: joint_weight=-1.0.",
        ),
        (
            {"multi_class_weight": 0.0, "joint_weight": 0.0},
            "`multi_class_weight` must be positive when all other weights of losses are 0",
        ),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"max_epochs": 0}, "`max_epochs` must be a positive integer"),
        ({"patience": 0}, "`patience` must be a positive integer"),
        ({"budget_steps": -1}, "`budget_steps` must be 0 or positive"),
        ({"min_steps": -1}, "`min_steps` must be 0 or positive"),
        ({"max_steps": 0}, "`max_steps` must be a positive integer or null"),
        ({"evaluation_steps": 0}, "`evaluation_steps` must be a positive integer or null"),
        ({"max_batch_share": 0.0}, "`max_batch_share` must be above 0 and at most 1"),
        ({"max_batch_share": 1.1}, "`max_batch_share` must be above 0 and at most 1"),
        (
            {"min_steps": 9, "max_steps": 8},
            "`max_steps` must be at least `min_steps` (9) or null. Received: max_steps=8.",
        ),
    ],
)
def test_impossible_trainings_are_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        TrainingConfig(**wrong)
    assert message in str(error.value)


def test_unknown_choices_name_the_path():
    with pytest.raises(ValueError, match="`model.interaction` must be one of utpm"):
        from_mapping(ModelConfig, {"interaction": "fm"}, "model")
