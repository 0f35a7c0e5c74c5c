"""Three steps in float16 on two workers, the second of which overflows on the second worker alone.

A program of its own, since a cluster has to be known before any other use of TensorFlow.
"""

import hashlib
import json

import numpy as np
import tensorflow as tf

from cae.config import Config
from cae.training import distribution
from cae.training.objectives import get_objective
from cae.training.train_state import TrainState
from cae.training.train_step import make_train_steps

strategy = distribution.make_strategy("multi_worker_mirrored")
config = Config(latent_dim=4, base_filters=4, precision="mixed_float16", batch_size=8)
state = TrainState.create(strategy, config, (16, 16, 1), total_steps=10)
images = np.random.default_rng(0).random((3, 8, 16, 16, 1), np.float32)
targets = images.copy()
targets[1, 4:] *= 1e30
data = tf.data.Dataset.from_tensor_slices({"image": targets, "input": images})
before = float(state.optimizer.dynamic_scale.numpy())

train_steps = make_train_steps(strategy, state, get_objective(config), 8)
train_steps(iter(distribution.distribute_dataset(strategy, data, infinite=True)), tf.constant(3))

weights = [variable.numpy() for variable in state.model.variables]
result = {
    "finite": all(bool(np.isfinite(weight).all()) for weight in weights),
    "weights": hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest(),
    "scale_before": before,
    "scale": float(state.optimizer.dynamic_scale.numpy()),
    "skipped": int(state.epoch_metrics.nonfinite_steps.numpy()),
}
print(json.dumps(result))
