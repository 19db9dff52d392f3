"""Precision and recall on all truth agree with TFMA's set metrics, on the same lists.

TFMA pools hits over users before it divides: with k tags a user that is our mean precision, while
its recall weighs a user by the size of the truth, so it is compared with pooled hits.
"""

import apache_beam as beam
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from apache_beam.testing import util
from google.protobuf import text_format

from trainer.evaluation import metrics

NUM_TAGS, K, NUM_USERS = 12, 5, 30


@pytest.fixture(scope="module")
def ranked_and_truths():
    rng = np.random.default_rng(0)
    ranked = np.array([rng.permutation(NUM_TAGS) for _ in range(NUM_USERS)])
    truths = [rng.choice(NUM_TAGS, size=rng.integers(1, 6), replace=False) for _ in ranked]
    return ranked, truths


def test_precision_and_pooled_recall_equal_tfma(ranked_and_truths):
    ranked, truths = ranked_and_truths
    hits = np.array([np.isin(row, truth) for row, truth in zip(ranked, truths, strict=True)])
    num_relevant = np.array([len(truth) for truth in truths])
    recalls = metrics.recall_at(hits, num_relevant, K)
    expected = {
        "precision": float(metrics.precision_at(hits, K).mean()),
        "recall": float(np.average(recalls, weights=num_relevant)),
    }
    config = text_format.Parse(
        f"""
        model_specs {{ prediction_key: "predictions" label_key: "labels" }}
        slicing_specs {{}}
        metrics_specs {{
          metrics {{ class_name: "SetMatchPrecision" config: '"name": "precision", "top_k": {K}' }}
          metrics {{ class_name: "SetMatchRecall" config: '"name": "recall", "top_k": {K}' }}
        }}
        """,
        tfma.EvalConfig(),
    )
    extracts = [
        {
            "features": {
                "labels": np.array([[f"t{tag}" for tag in truth]]),
                "predictions": {
                    "classes": np.array([[f"t{tag}" for tag in row]]),
                    "scores": np.linspace(1.0, 0.1, NUM_TAGS)[np.newaxis],
                },
            }
        }
        for row, truth in zip(ranked, truths, strict=True)
    ]

    def check(got):
        (_, values) = got[0]
        found = {key.name: float(np.squeeze(value)) for key, value in values.items()}
        assert found == pytest.approx(expected, abs=1e-6)

    with beam.Pipeline() as pipeline:
        evaluated = (
            pipeline
            | beam.Create(extracts)
            | tfma.ExtractAndEvaluate(
                extractors=tfma.default_extractors(eval_shared_model=None, eval_config=config),
                evaluators=tfma.default_evaluators(eval_config=config),
            )
        )
        util.assert_that(evaluated["metrics"], check)
