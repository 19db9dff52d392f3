"""Distributes a training over devices and processes by strategies of `tf.distribute`.

A step is one step of all replicas together: each takes its part of the step's batch, losses are
divided by the size of the whole batch, gradients are added up. A training on several replicas thus
differs only in the order of additions and in what dropout hides.
"""

import os
from collections.abc import Callable
from typing import Any, Literal

import tensorflow as tf

from trainer.contract.config_loader import require
from trainer.data.snapshots import Share

_TF_CONFIG = "TF_CONFIG"


class Replicas:
    """The replicas of a training, seen from one of its processes.

    Args:
      strategy: Strategy of `tf.distribute`; None: one replica, without a strategy.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None):
        self.is_distributed = strategy is not None
        # TensorFlow's default strategy changes nothing.
        self.strategy = tf.distribute.get_strategy() if strategy is None else strategy
        # Number of replicas in this process.
        self.num_local = 0 if strategy is None else len(strategy.extended.worker_devices)
        self._num_processes, self.is_chief = 1, True
        resolver = None if strategy is None else strategy.cluster_resolver
        if resolver is not None:
            cluster = resolver.cluster_spec().as_dict()
            self._num_processes = max(1, sum(len(hosts) for hosts in cluster.values()))
            # The chief, or the first worker of a cluster without a chief.
            chief = ("chief" if "chief" in cluster else "worker", 0)
            self.is_chief = not cluster or (resolver.task_type, resolver.task_id) == chief

    @classmethod
    def of(cls, name: Literal["none", "mirrored", "multi_worker"]) -> "Replicas":
        """Makes the replicas that a configuration names.

        Args:
          name: `none`; `mirrored`: the GPUs of this machine, or its CPU; `multi_worker`: the
            devices of the processes that `TF_CONFIG` names.

        Returns:
          The replicas.

        Raises:
          ValueError: `multi_worker` in a process without `TF_CONFIG`, or in one in which TensorFlow
            has run already.
        """
        if name == "none":
            return cls()
        if name == "mirrored":
            return cls(tf.distribute.MirroredStrategy())
        require(
            bool(os.environ.get(_TF_CONFIG)),
            "training.strategy",
            f"not be `multi_worker` in a process without `{_TF_CONFIG}` (docs/training.md)",
            name,
        )
        try:
            return cls(tf.distribute.MultiWorkerMirroredStrategy())
        except RuntimeError as error:
            # TensorFlow's error: "Collective ops must be configured at program startup".
            raise ValueError(
                "`training.strategy` must be `multi_worker` only in a process that starts with "
                f"the training (docs/training.md). Received: {error}"
            ) from error

    def datasets(self, make: Callable[[Share], tf.data.Dataset]) -> Any:
        """Returns the distributed dataset of this process's replicas.

        Args:
          make: Function from a share to its batches, one for each replica and step.

        Returns:
          The distributed dataset that `tf.distribute` makes of the batches.
        """

        def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
            total = context.num_replicas_in_sync
            count = total // context.num_input_pipelines
            return make(Share(context.input_pipeline_id * count, count, total))

        return self.strategy.distribute_datasets_from_function(of_process)

    def from_chief(self, value: float | None) -> float | None:
        """Sends a value from the chief to all processes, which must all call this method.

        Args:
          value: Value of this process; only the chief's is used.

        Returns:
          The chief's value.
        """
        if self._num_processes == 1:
            return value
        own = float("nan") if value is None else value

        @tf.function(autograph=False)
        def total() -> tf.Tensor:
            def of_replica() -> tf.Tensor:
                # The chief's first replica is the first of all replicas.
                first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
                mine = tf.constant(own if self.is_chief else 0.0, tf.float64)
                return tf.where(first, mine, tf.zeros([], tf.float64))

            parts = self.strategy.run(of_replica)
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

        found = float(total())
        return None if found != found else found
