"""Trains a toy model on the replicas of a strategy and prints the result as JSON.

It is a script, because a strategy of several processes, and the number of logical devices, are
fixed when TensorFlow starts. Arguments: the strategy, and a folder for checkpoints or nothing.
"""

import dataclasses
import json
import sys

import numpy as np

import trainer  # noqa: F401, selects Keras 2

# isort: split
import tensorflow as tf

from tests.trainer.toy_training import SMALL, Keeps, make_model, snapshots, validation_part
from trainer.fitting.checkpoints import CheckpointFolder
from trainer.fitting.distribution import Replicas
from trainer.fitting.loop import fit

# Replicas drop other values in dropout than one process would.
MODEL = dataclasses.replace(SMALL, interaction="autoint", dropout=0.0, domain_dropout=0.0)
# Seven steps an epoch: the last one has 5 users, an odd number, for two replicas.
NUM_USERS = 101
SOFTMAX = {
    "full": {},
    "sampled": {"full_softmax_max_tags": 4, "num_sampled_tags": 5},
}


def train(replicas: Replicas, softmax: str, checkpoints: CheckpointFolder | None = None) -> dict:
    def make():
        # Users' vectors begin at 0, where some gradients are nothing but rounding, which Adam takes
        # for a whole step: at a higher rate replicas part from one process in the second epoch.
        options = {"max_epochs": 3, "learning_rate": 0.005, **SOFTMAX[softmax]}
        return make_model(model=MODEL, **options)

    model = make()
    result = fit(
        model,
        snapshots(NUM_USERS),
        validation_part(),
        0,
        checkpoints=checkpoints,
        replicas=replicas,
        make_replica=make,
    )
    weights = [weight.astype(float) for weight in model.get_weights()]
    return {
        "is_chief": replicas.is_chief,
        "num_replicas": replicas.strategy.num_replicas_in_sync,
        "losses": result.losses,
        "best_step": result.best_step,
        "validations": len(result.validation),
        "weights": [float(np.linalg.norm(weight)) for weight in weights],
    }


def main(strategy: str, folder: str = "") -> None:
    if strategy == "mirrored":
        (device,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(device, two)
        replicas = Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    else:
        replicas = Replicas.of(strategy)
    kept = Keeps(folder) if folder else None
    found = {
        softmax: train(replicas, softmax, kept if softmax == "full" else None)
        for softmax in SOFTMAX
    }
    if kept is not None:
        # As if all processes had been killed after the first epoch.
        found["resumed"] = train(replicas, "full", CheckpointFolder(kept.at(7)))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
