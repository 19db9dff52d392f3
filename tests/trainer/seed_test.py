"""A seed fixes everything on one machine, to the last digit, whatever else runs there.

Trainings are separate processes, because the number of threads and the instruction set are chosen
when TensorFlow starts. The model is large enough for its products to be shared among threads.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAINING = """
import hashlib, json
from tests.trainer.toy_training import make_model, snapshots, validation_part
from trainer.config import ModelConfig
from trainer.fitting.loop import fit

model = make_model(seed=3, model=ModelConfig(), num_tags=1500, batch_size=256, max_epochs=2)
result = fit(model, snapshots(512), validation_part(), seed=3)
weights = b"".join(variable.numpy().tobytes() for variable in model.variables)
print(json.dumps({
    "losses": [loss.hex() for loss in result.losses],
    "validation": list(result.validation),
    "weights": hashlib.sha256(weights).hexdigest(),
}))
"""
BUSY = [sys.executable, "-c", "while True: pass"]
# docs/training.md, "What a seed fixes".
SAME_ON_ANY_NUMBER_OF_CORES = {
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "TF_NUM_INTRAOP_THREADS": "1",
}


def start_training(cores: set[int], **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def figures(training: subprocess.Popen) -> dict:
    printed, errors = training.communicate()
    assert training.returncode == 0, errors
    return json.loads(printed.splitlines()[-1])


@pytest.fixture(scope="module")
def cores():
    return os.sched_getaffinity(0)


def test_two_trainings_agree_to_the_last_digit_while_every_core_is_busy_with_something_else(cores):
    alone = figures(start_training(cores))
    others = [subprocess.Popen(BUSY) for _ in range(len(cores) + 1)]
    try:
        among_others = figures(start_training(cores))
    finally:
        for other in others:
            other.kill()
            other.wait()

    assert len(alone["losses"]) == 2
    assert among_others == alone


def test_documented_settings_make_one_core_and_all_cores_agree(cores):
    if len(cores) < 2:
        pytest.skip("needs two cores")
    one_core = start_training({min(cores)}, **SAME_ON_ANY_NUMBER_OF_CORES)
    all_cores = start_training(cores, **SAME_ON_ANY_NUMBER_OF_CORES)

    assert figures(one_core) == figures(all_cores)
