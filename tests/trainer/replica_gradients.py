"""Prints, as JSON, the gradients of two replicas and of one worker for the same batch.

Run as a script, because the number of logical devices is fixed when TensorFlow starts.
"""

import json

import numpy as np

import trainer  # noqa: F401, selects Keras 2

# isort: split
import tensorflow as tf

from trainer.config import ModelConfig, TrainingConfig
from trainer.contract import features as f
from trainer.model import InterestModel

NUM_TAGS = 7
SPEC = f.FeatureSpec(domains=(f.Domain("clicked_tags"),))
# Moments of a batch normalisation would be those of a replica's part: here is none.
MODEL = ModelConfig(
    interaction="youtube_dnn",
    norm="layer",
    embedding_dim=4,
    hidden_dim=6,
    output_dim=4,
    dropout=0.0,
    domain_dropout=0.0,
)
TRAINING = {
    "multi_class_weight": 0.7,
    "multi_class_joint_weight": 0.4,
    "joint_weight": 0.3,
    "split_weight": 0.2,
    "attention_weight": 0.5,
    "user_weighting": "sqrt_clicks",
}
COLUMNS = {
    "clicked_tags": ([[0, 3], [1], [6, 2], [4]], tf.int64),
    "clicked_tags_weights": ([[1.0, 2.0], [1.0], [1.0, 1.0], [3.0]], tf.float32),
    f.LABEL_TAGS: ([[0, 6], [2], [-1], [1, 3, 4]], tf.int64),
    f.LABEL_TAG_WEIGHTS: ([[2.0, 1.0], [1.0], [1.0], [4.0, 2.0, 1.0]], tf.float32),
    f.IMPRESSION_TAGS: ([[0, 1, 5], [2, -1], [], [6, 3]], tf.int64),
    f.IMPRESSION_NUM_TAGS: ([[2, 1], [2], [0], [1, 1]], tf.int64),
    f.IMPRESSION_CLICKED: ([[1.0, 0.0], [1.0], [0.0], [1.0, 1.0]], tf.float32),
    f.IMPRESSION_WEIGHTS: ([[1.0, 2.0], [1.0], [0.5], [1.0, 3.0]], tf.float32),
}
# The first replica has one user, the second three: labels and impressions fall unevenly on them.
FIRST, LIMIT = [0, 1], [1, 4]


def make_batch():
    return {
        name: tf.ragged.constant(rows, dtype, ragged_rank=1)
        for name, (rows, dtype) in COLUMNS.items()
    }


def make_model(config):
    model = InterestModel(
        SPEC, {"tags": NUM_TAGS + 1}, NUM_TAGS, MODEL, config, tag_frequencies=np.arange(1.0, 8)
    )
    model(make_batch())
    return model


def gradients_of(model, batch):
    """Returns the loss, and its dense gradients in order."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    gradients = tape.gradient(
        loss, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return loss, tf.concat([tf.reshape(tf.convert_to_tensor(g), [-1]) for g in gradients], axis=0)


def metrics_of(model):
    return [float(metric.result()) for metric in model.metrics]


def compare(**options):
    config = TrainingConfig(**options)
    one = make_model(config)
    loss, gradients = gradients_of(one, make_batch())

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = make_model(config)

    @tf.function
    def step():
        def replica_step():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            rows = tf.range(tf.gather(FIRST, replica), tf.gather(LIMIT, replica))
            batch = {name: tf.gather(column, rows) for name, column in make_batch().items()}
            return gradients_of(model, batch)

        return strategy.run(replica_step)

    losses, parts = step()
    added = strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None).numpy()
    return {
        "num_replicas": strategy.num_replicas_in_sync,
        "loss": float(loss),
        "replicas_loss": float(strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)),
        "metrics": metrics_of(one),
        "replicas_metrics": metrics_of(model),
        "gradient_size": float(np.abs(gradients).max()),
        "gradient_difference": float(np.abs(gradients - added).max()),
        "sampling_steps": [int(w.numpy()) for w in model.weights if "sampling_step" in w.name],
    }


def main():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    sampled = {"full_softmax_max_tags": 6, "num_sampled_tags": 3, "mask_positives": True}
    figures = {"full": compare(**TRAINING), "sampled": compare(**TRAINING, **sampled)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
