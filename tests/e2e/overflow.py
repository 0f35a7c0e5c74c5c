"""Three steps in float16 on two machines, the second of which overflows on the second machine alone.

A program of its own, since machines have to be known before anything else of TensorFlow runs.
"""

import hashlib
import json

import numpy as np
import tensorflow as tf

from cae.config import Config
from cae.training import build, distribution, objectives, steps

strategy = distribution.make_strategy("multiworker")
settings = Config(latent_dim=4, width=4, precision="mixed_float16", batch_size=8)
state = build.build_state(strategy, settings, (16, 16, 1), steps=10)
images = np.random.default_rng(0).random((3, 8, 16, 16, 1), np.float32)
targets = images.copy()
targets[1, 4:] *= 1e30
data = tf.data.Dataset.from_tensor_slices({"image": targets, "noisy": images})
before = float(state.optimizer.dynamic_scale.numpy())

train_steps = steps.make_train_steps(strategy, state, objectives.find(settings), 8)
train_steps(iter(distribution.shared_out(strategy, data, endless=True)), tf.constant(3))

weights = [variable.numpy() for variable in state.model.variables]
found = {
    "finite": all(bool(np.isfinite(weight).all()) for weight in weights),
    "weights": hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest(),
    "scale_before": before,
    "scale": float(state.optimizer.dynamic_scale.numpy()),
    "skipped": int(state.tally.skipped.numpy()),
}
print(json.dumps(found))
