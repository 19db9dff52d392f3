"""Answers of a model that is not this project's are refused by the name of what is missing."""

import grpc
import numpy as np
import pytest

from serving.client import TagClientError
from tagtower_client.answer_checks import check_answer, own_inputs
from trainer.contract.signatures import EXPLAIN, RETRIEVE, SCORE_TAGS, SIMILAR_TAGS

ANSWER = {
    "tags": np.array([[b"a", b"b"]], object),
    "scores": np.ones([1, 2], np.float32),
    "probabilities": np.ones([1, 2], np.float32),
}


def test_answer_of_the_table_is_taken_with_more_outputs_and_without_what_older_versions_lack():
    check_answer("default", RETRIEVE, ANSWER)
    check_answer("default", RETRIEVE, ANSWER | {"more": np.ones(3)})
    check_answer("default", RETRIEVE, {name: ANSWER[name] for name in ("tags", "scores")})


@pytest.mark.parametrize(
    ("signature", "outputs", "named"),
    [
        (
            RETRIEVE,
            {"tags": ANSWER["tags"]},
            r"`retrieve` without .* `scores`, float32 \[batch, k\]",
        ),
        (RETRIEVE, ANSWER | {"scores": ANSWER["tags"]}, "`scores`"),
        (RETRIEVE, ANSWER | {"tags": np.array([b"a"], object)}, r"`tags`, string \[batch, k\]"),
        # It is new in `retrieve` alone.
        (SCORE_TAGS, {"scores": ANSWER["scores"]}, "`score_tags` without .* `probabilities`"),
        (SIMILAR_TAGS, ANSWER | {"count": np.ones(1, np.float32)}, r"`count`, int32 \[n\]"),
        (EXPLAIN, {}, "`score`"),
    ],
)
def test_answer_that_lacks_an_output_or_has_another_type_is_refused(signature, outputs, named):
    with pytest.raises(TagClientError, match=named) as caught:
        check_answer("default", signature, outputs)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert str(caught.value).endswith("Is it a servable of `tagtower run`?")


def test_own_inputs_are_those_that_are_no_features():
    assert own_inputs(EXPLAIN) == {"explained_tag"}
    assert own_inputs(RETRIEVE) == set()
