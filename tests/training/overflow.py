"""Three steps in float16, the second of which overflows on the last replica alone: what is left of the weights?

A program of its own, since devices and machines have to be known before anything else of TensorFlow runs.
"""

import hashlib
import json
import sys

import numpy as np
import tensorflow as tf

from cae.config import Config
from cae.training import build, distribution, objectives, steps

strategy = distribution.make_strategy(sys.argv[1], int(sys.argv[2]))
settings = Config(latent_dim=4, width=4, precision="mixed_float16", batch_size=8)
state = build.build_state(strategy, settings, (16, 16, 1), steps=10)
images = np.random.default_rng(0).random((3, 8, 16, 16, 1), np.float32)
targets = images.copy()
targets[1, 4:] *= 1e30
data = tf.data.Dataset.from_tensor_slices({"image": targets, "noisy": images})
before = float(state.optimizer.dynamic_scale.numpy())

train_steps = steps.make_train_steps(strategy, state, objectives.find(settings), 8)
train_steps(iter(distribution.shared_out(strategy, data, endless=True)), tf.constant(3))

replicas = [[part.numpy() for part in strategy.experimental_local_results(w.value)] for w in state.model.variables]
scales = strategy.experimental_local_results(state.optimizer.dynamic_scale.value)
found = {
    "finite": all(bool(np.isfinite(part).all()) for parts in replicas for part in parts),
    "alike": all(np.array_equal(part, parts[0]) for parts in replicas for part in parts),
    "weights": hashlib.sha256(b"".join(parts[0].tobytes() for parts in replicas)).hexdigest(),
    "scale_before": before,
    "scales": [float(scale) for scale in scales],
    "skipped": int(state.tally.skipped.numpy()),
}
print(json.dumps(found))
