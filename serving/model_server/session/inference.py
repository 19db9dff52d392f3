"""Answers to Classify, Regress and MultiInference: signatures of serialized examples by their form.

A signature can be classified by if it has the input `inputs` and the outputs `classes` or `scores`
or both, and regressed by if it has the input `inputs` and the output `outputs`. As in TensorFlow
Serving by default, the `method_name` of a signature does not matter. The servables of this project
have no such signatures; those of others may.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.model_server.errors import invalid_argument, unimplemented
from serving.model_server.session.predict import DEFAULT_SIGNATURE, Run, run_signature
from serving.model_server.session.request_limits import RequestLimits
from serving.model_server.session.servable import Servable
from tagtower_client.tensor_proto import data_type_of

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


@dataclasses.dataclass(frozen=True)
class Inference:
    """The calls of one request for examples.

    Attributes:
      servable: Loaded version of the model.
      version: Number of the version, for the answer.
      limits: Limits on the cost of the request; None: no limits, for trusted requests.
      run: Function that computes the outputs of a signature; None: `servable.run`.
    """

    servable: Servable
    version: int
    limits: RequestLimits | None = None
    run: Run | None = None

    def classify(
        self, request: classification_pb2.ClassificationRequest
    ) -> classification_pb2.ClassificationResponse:
        """Answers a Classify request.

        Args:
          request: Request, whose `model_spec` has been resolved to `servable` already.

        Raises:
          ServingError: The request is refused, with TensorFlow Serving's code and message.
        """
        name = self._existing(request.model_spec)
        outputs = _classified(self.servable.signature_defs[name])
        examples = self._examples(request.input)
        response = classification_pb2.ClassificationResponse()
        self._name(response.model_spec, request.model_spec)
        _add_classes(response.result, self._outputs(name, examples, outputs), len(examples))
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest
    ) -> regression_pb2.RegressionResponse:
        """Answers a Regress request; see `classify`."""
        name = self._existing(request.model_spec)
        outputs = _regressed(self.servable.signature_defs[name])
        examples = self._examples(request.input)
        response = regression_pb2.RegressionResponse()
        self._name(response.model_spec, request.model_spec)
        _add_values(response.result, self._outputs(name, examples, outputs), len(examples))
        return response

    def infer(
        self, request: inference_pb2.MultiInferenceRequest
    ) -> inference_pb2.MultiInferenceResponse:
        """Answers a MultiInference request, whose first task was resolved to `servable`.

        Raises:
          ServingError: The request is refused, with TensorFlow Serving's code and message.
        """
        tasks = self._checked_tasks(request.tasks)
        examples = self._examples(request.input)
        response = inference_pb2.MultiInferenceResponse()
        for task, (name, outputs) in zip(request.tasks, tasks.items(), strict=True):
            result = response.results.add()
            self._name(result.model_spec, task.model_spec)
            values = self._outputs(name, examples, outputs)
            if task.method_name == CLASSIFY_METHOD:
                _add_classes(result.classification_result, values, len(examples))
            else:
                _add_values(result.regression_result, values, len(examples))
        return response

    def _examples(self, examples: input_pb2.Input) -> np.ndarray:
        """Returns the examples as strings [batch]; the context is part of each."""
        context = b""
        messages = examples.example_list.examples
        if examples.WhichOneof("kind") == "example_list_with_context":
            context = examples.example_list_with_context.context.SerializeToString()
            messages = examples.example_list_with_context.examples
        if not messages:
            raise invalid_argument("Input is empty.")
        if self.limits is not None:
            self.limits.check_examples(len(messages), len(context))
        strings = np.empty(len(messages), dtype=object)
        # Two serialized messages, one after the other, are their merge.
        strings[:] = [context + message.SerializeToString() for message in messages]
        return strings

    def _checked_tasks(
        self, tasks: Sequence[inference_pb2.InferenceTask]
    ) -> dict[str, tuple[str, ...]]:
        """Returns the outputs of each task by the name of its signature."""
        checked: dict[str, tuple[str, ...]] = {}
        inputs = set()
        for task in tasks:
            if not task.model_spec.name:
                raise invalid_argument("Found ModelSpec with an empty model name.")
            if task.model_spec.name != tasks[0].model_spec.name:
                raise invalid_argument(
                    "All ModelSpecs in a MultiInferenceRequest must access the same model name."
                )
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            if name in checked:
                raise invalid_argument(f"Duplicate evaluation of signature: {name}")
            if name not in self.servable.signatures:
                raise invalid_argument(f"Requested signature not found in model graph: {name}")
            definition = self.servable.signature_defs[name]
            if task.method_name == CLASSIFY_METHOD:
                checked[name] = _classified(definition)
            elif task.method_name == REGRESS_METHOD:
                checked[name] = _regressed(definition)
            else:
                raise unimplemented(f"Unsupported signature method_name: {task.method_name}")
            inputs.add(definition.inputs[_INPUTS].name)
            if len(inputs) > 1:
                raise invalid_argument("Input tensor must be the same for all Signatures.")
        return checked

    def _existing(self, spec: model_pb2.ModelSpec) -> str:
        """Returns the name of the signature that Classify or Regress calls."""
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name not in self.servable.signatures:
            raise invalid_argument(f"No signature was found with the name: {name}")
        return name

    def _name(self, answered: model_pb2.ModelSpec, asked: model_pb2.ModelSpec) -> None:
        answered.name = asked.name
        answered.signature_name = asked.signature_name or DEFAULT_SIGNATURE
        answered.version.value = self.version

    def _outputs(
        self, name: str, examples: np.ndarray, outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        return run_signature(
            self.servable,
            self.servable.signatures[name],
            {_INPUTS: examples},
            outputs,
            self.limits,
            self.run,
        )


def _classified(definition: meta_graph_pb2.SignatureDef) -> tuple[str, ...]:
    """Returns the outputs of a signature that classifies."""
    if len(definition.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(definition.outputs) not in (1, 2):
        raise invalid_argument(
            f"Expected one or two output Tensors, found {len(definition.outputs)}"
        )
    if _INPUTS not in definition.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {definition}")
    outputs = tuple(name for name in (_CLASSES, _SCORES) if name in definition.outputs)
    if not outputs:
        raise invalid_argument(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {definition}'
        )
    return outputs


def _regressed(definition: meta_graph_pb2.SignatureDef) -> tuple[str, ...]:
    """Returns the output of a signature that regresses."""
    if len(definition.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(definition.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if _INPUTS not in definition.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {definition}")
    if _OUTPUTS not in definition.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {definition}")
    return (_OUTPUTS,)


def _add_classes(
    result: classification_pb2.ClassificationResult,
    outputs: Mapping[str, np.ndarray],
    num_examples: int,
) -> None:
    """Adds the classes and scores of each example to an answer."""
    for name, data_type in ((_CLASSES, types_pb2.DT_STRING), (_SCORES, types_pb2.DT_FLOAT)):
        if name in outputs:
            _check_classified(name, outputs[name], data_type, num_examples)
    widths = [array.shape[1] for array in outputs.values()]
    if len(set(widths)) > 1:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{outputs[_CLASSES].shape[1]} vs. {outputs[_SCORES].shape[1]}"
        )
    labels = outputs[_CLASSES].tolist() if _CLASSES in outputs else None
    scores = outputs[_SCORES].tolist() if _SCORES in outputs else None
    for row in range(num_examples):
        classes = result.classifications.add().classes
        for column in range(widths[0]):
            added = classes.add()
            if labels is not None:
                added.label = labels[row][column].decode("utf-8", "replace")
            if scores is not None:
                added.score = scores[row][column]


def _check_classified(name: str, array: np.ndarray, data_type: int, num_examples: int) -> None:
    if array.ndim != 2:
        raise invalid_argument(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    if data_type_of(array) != data_type:
        raise invalid_argument(
            f"Expected {name} Tensor of {_type_name(data_type)}. Got: "
            f"{_type_name(data_type_of(array))}"
        )
    if len(array) != num_examples:
        raise invalid_argument(
            f"Expected {name} output batch size of {num_examples}. Got: {len(array)}"
        )


def _add_values(
    result: regression_pb2.RegressionResult, outputs: Mapping[str, np.ndarray], num_examples: int
) -> None:
    """Adds the value of each example to an answer."""
    array = outputs[_OUTPUTS]
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(array)}"
        )
    if len(array) != num_examples:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {num_examples} vs. {len(array)}"
        )
    if data_type_of(array) != types_pb2.DT_FLOAT:
        raise invalid_argument(
            f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(data_type_of(array))}"
        )
    for value in array.reshape(-1).tolist():
        result.regressions.add().value = value


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _type_name(data_type: int) -> str:
    return types_pb2.DataType.Name(data_type)
