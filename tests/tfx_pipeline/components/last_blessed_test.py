"""The last blessed model is not the run's own: no model is compared with or started by itself."""

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from tfx_pipeline.components.last_blessed import (
    LatestBlessedModelOfOtherExamplesStrategy,
    LatestOtherBlessedModelStrategy,
)


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


class Lineage:
    """A metadata store in memory that knows from which examples each model was trained."""

    def __init__(self):
        config = metadata_store_pb2.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = mlmd.MetadataStore(config)
        self.types = {
            name: self.store.put_artifact_type(metadata_store_pb2.ArtifactType(name=name))
            for name in ("Model", "Examples")
        }
        self.training = self.store.put_execution_type(
            metadata_store_pb2.ExecutionType(name="Trainer")
        )

    def artifact(self, kind: str) -> int:
        (number,) = self.store.put_artifacts(
            [metadata_store_pb2.Artifact(type_id=self.types[kind])]
        )
        return number

    def execution(self, inputs, outputs) -> None:
        (execution,) = self.store.put_executions(
            [metadata_store_pb2.Execution(type_id=self.training)]
        )
        events = [(number, metadata_store_pb2.Event.INPUT) for number in inputs]
        events += [(number, metadata_store_pb2.Event.OUTPUT) for number in outputs]
        self.store.put_events(
            [
                metadata_store_pb2.Event(artifact_id=number, execution_id=execution, type=kind)
                for number, kind in events
            ]
        )

    def trained(self, examples: int, base_model: int | None = None) -> int:
        number = self.artifact("Model")
        self.execution([examples] + ([] if base_model is None else [base_model]), [number])
        return number

    def start(self, examples: int, models, blessings) -> list[int]:
        resolved = LatestBlessedModelOfOtherExamplesStrategy().resolve_artifacts(
            self.store,
            {
                "current": [model(examples)],
                "model": [model(number) for number in models],
                "model_blessing": blessings,
            },
        )
        return [artifact.id for artifact in resolved["model"]]


def test_warm_start_of_a_first_run_has_no_model():
    lineage = Lineage()

    assert lineage.start(lineage.artifact("Examples"), [], []) == []


def test_unchanged_run_starts_from_the_model_that_its_first_run_started_from():
    lineage = Lineage()
    monday, tuesday = lineage.artifact("Examples"), lineage.artifact("Examples")
    old = lineage.trained(monday)
    first = lineage.start(tuesday, [old], [blessing(old, at=1001)])
    new = lineage.trained(tuesday, base_model=old)
    # A cached execution is one more that has the same inputs and outputs.
    lineage.execution([tuesday, old], [new])

    again = lineage.start(tuesday, [old, new], [blessing(old, at=1001), blessing(new, at=1002)])

    assert first == again == [old]


def test_next_examples_start_from_the_latest_blessed_model():
    lineage = Lineage()
    days = [lineage.artifact("Examples") for _ in range(4)]
    models = [lineage.trained(day) for day in days[:3]]
    verdicts = [
        blessing(models[0], at=1001),
        blessing(models[1], at=1002),
        blessing(models[2], is_blessed=False, at=1003),
    ]

    assert lineage.start(days[3], models, verdicts) == [models[1]]


def test_model_that_another_node_evaluated_on_these_examples_may_be_started_from():
    lineage = Lineage()
    monday, tuesday = lineage.artifact("Examples"), lineage.artifact("Examples")
    old = lineage.trained(monday)
    lineage.execution([tuesday, old], [])  # the Evaluator compared with it

    assert lineage.start(tuesday, [old], [blessing(old, at=1001)]) == [old]
