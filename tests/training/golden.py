"""Golden weights: small models after 20 training steps, and fingerprints of the machines that computed them.

`make golden` renews tests/golden/weights.json, and is only for a change that is meant to change numbers; `make golden
ADD=--add` keeps it and adds the digests of another machine, whose weights must agree within the tolerances.
"""

import functools
import hashlib
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cae.config import Config
from cae.data import datasets, noise, pipeline
from cae.data.splits import ArraySplit
from cae.training import distribution
from cae.training.objectives import get_objective
from cae.training.train_state import TrainState
from cae.training.train_step import make_train_steps

FILE = Path(__file__).resolve().parents[1] / "golden/weights.json"

STEPS, BATCH_SIZE, IMAGES = 20, 8, 44

# Sizes that are padded and downsampled twice, and colors, so that every kind of layer and the channel order matter.
IMAGE_SHAPE = (18, 18, 3)

OBJECTIVES = {"conv": {}, "vae": {"model": "vae"}, "acai": {"regularizer": "acai"}}

CASES = [
    (objective, precision, replicas)
    for objective in OBJECTIVES
    for precision in ("float32", "mixed_float16")
    for replicas in (1, 2)
]

NUM_VALUES = 4
"""Values of a variable that are stored, beside its sum and its norm."""


def make_dataset():
    """Returns a data set of synthetic images: a disk on a background of another color, and a little noise."""
    random = np.random.default_rng(0)
    height, width, channels = IMAGE_SHAPE
    y, x = np.mgrid[:height, :width]
    images = np.empty((IMAGES, *IMAGE_SHAPE), np.uint8)
    for image in images:
        disk = (y - random.integers(4, 14)) ** 2 + (x - random.integers(4, 14)) ** 2 < random.integers(9, 36)
        colors = random.integers(0, 200, (2, channels))
        image[:] = np.where(disk[..., None], *colors) + random.integers(0, 56, IMAGE_SHAPE)
    split = ArraySplit(IMAGES, "synthetic", lambda: [(images, np.zeros(IMAGES, np.int64))])
    return datasets.ImageDataset(
        name="synthetic",
        image_shape=IMAGE_SHAPE,
        class_names=(),
        splits={"train": split, "validation": split},
    )


def train(case, strategy):
    """Returns by name, after 20 steps: sums of losses, weights, and the optimizers' slots, counters and loss scales."""
    objective, precision, _ = case
    config = Config(
        base_filters=4, latent_dim=4, batch_size=BATCH_SIZE, epochs=5, precision=precision, learning_rate=0.004,
        lr_schedule="cosine", noise="gaussian:0.1-0.5", **OBJECTIVES[objective],
    )  # fmt: skip
    train_data = pipeline.make_train_data(make_dataset(), noise.parse_noise(config.noise), BATCH_SIZE, config.seed)
    state = TrainState.create(strategy, config, IMAGE_SHAPE, train_data.num_steps(config.epochs))
    train_steps = make_train_steps(strategy, state, get_objective(config), BATCH_SIZE)
    batches = distribution.distribute_dataset(strategy, train_data.train(0, STEPS), infinite=True)
    _, applied = train_steps(iter(batches), tf.constant(STEPS))
    assert state.global_step == STEPS and int(applied) == STEPS
    networks = {"model": state} | ({"critic": state.critic} if state.critic else {})
    # Keras' names would number the layers of the process.
    return {"losses": state.epoch_metrics.loss_sums.numpy()} | {
        f"{name}.{kind} {index} {'x'.join(map(str, variable.shape))}": variable.numpy()
        for name, network in networks.items()
        for kind, variables in (("weights", network.model.variables), ("optimizer", network.optimizer.variables))
        for index, variable in enumerate(variables)
    }


def digest(variables):
    """Returns the SHA-256 of all variables."""
    sha256 = hashlib.sha256()
    for name, value in variables.items():
        sha256.update(name.encode() + str(value.dtype).encode() + value.tobytes())
    return sha256.hexdigest()


def summary(variables):
    """Returns [sum, L2 norm, some of the values] of each variable, in float64."""
    summaries = {}
    for name, value in variables.items():
        flat = value.astype(np.float64).ravel()
        values = flat[np.linspace(0, flat.size - 1, NUM_VALUES).astype(int)]
        summaries[name] = [float(f"{each:.9g}") for each in (flat.sum(), np.linalg.norm(flat), *values)]
    return summaries


TOLERANCES = {"float32": 1e-4, "mixed_float16": 4e-2}
"""Allowed difference from the stored values on a machine of another fingerprint, relative to a variable's L2 norm."""


def differences(case, variables, expected):
    """Returns a line for each variable that differs from its stored summary by more than the tolerance.

    Sums of n values may differ sqrt(n) times as much. In float16 most values agree in their order of magnitude only:
    there norms of kernels, and losses, are compared.
    """
    _, precision, _ = case
    tolerance, lines = TOLERANCES[precision], []
    summaries = summary(variables)
    if summaries.keys() != expected.keys():
        return [f"other variables: {sorted(summaries.keys() ^ expected.keys())}"]
    for name, value in variables.items():
        stored, computed = np.array(expected[name]), np.array(summaries[name])
        errors = np.abs(computed - stored) / max(stored[1], 1e-12)
        errors[0] /= max(value.size, 1) ** 0.5
        if precision != "float32":
            is_compared = name == "losses" or (".weights" in name and value.ndim > 1)
            errors = errors[1:2] if is_compared else errors[:0]
        if not (errors <= tolerance).all():  # True for NaN as well.
            lines.append(f"{name}: {computed} is not {stored}: differs by {errors.max():.1e} of its norm")
    return lines


def fingerprint():
    """Returns the SHA-256 of what TensorFlow alone computes on this machine, and of the versions of it and Keras.

    These are convolutions of the models' shapes and their gradients, matrix products, elementary functions, and normal
    samples: in float32 and in float16, in a graph, where operations may be fused.
    """
    sha256 = hashlib.sha256(f"tensorflow {tf.__version__} keras {keras.__version__}".encode())
    random = np.random.default_rng(1)
    for dtype in (np.float32, np.float16):

        def results(operation, *shapes, dtype=dtype):
            # As arguments, since a graph of constants is folded by other kernels.
            return tf.function(operation)(*(tf.constant(random.standard_normal(shape), dtype) for shape in shapes))

        # A microbatch has two images, and twice as many are decoded for the critic.
        for images in (2, 4):
            for side, inputs, filters, strides in ((10, 12, 4, 1), (10, 4, 4, 1), (10, 4, 16, 2), (10, 4, 12, 1)):
                shapes = (images, side, side, inputs), (3, 3, inputs, filters), (filters,)
                _update(sha256, results(functools.partial(_convolution, strides), *shapes))
            _update(sha256, results(_transposed_convolution, (images, 5, 5, 16), (3, 3, 4, 16)))
            for inputs, outputs in ((400, 4), (4, 400), (400, 32)):
                _update(sha256, results(_products, (images, inputs), (inputs, outputs)))
        _update(sha256, results(_functions, (1000,)))
    return sha256.hexdigest()


def _update(sha256, results):
    for each in results:
        sha256.update(each.numpy().tobytes())


def _convolution(strides, features, kernel, bias):
    with tf.GradientTape() as tape:
        tape.watch((features, kernel, bias))
        output = tf.nn.leaky_relu(tf.nn.conv2d(features, kernel, strides, "SAME") + bias, 0.2)
    return [output, *tape.gradient(output, (features, kernel, bias), output)]


def _transposed_convolution(features, kernel):
    height, width, filters = 2 * features.shape[1], 2 * features.shape[2], kernel.shape[2]
    with tf.GradientTape() as tape:
        tape.watch((features, kernel))
        output = tf.nn.conv2d_transpose(features, kernel, [features.shape[0], height, width, filters], 2)
    return [output, *tape.gradient(output, (features, kernel), output)]


def _products(vectors, matrix):
    product = vectors @ matrix
    return product, tf.matmul(product, matrix, transpose_b=True), tf.matmul(vectors, product, transpose_a=True)


def _functions(values):
    normal = tf.random.stateless_normal(values.shape, [0, 1], dtype=values.dtype)
    functions = (tf.exp, tf.math.log, tf.tanh, tf.math.rsqrt, tf.sqrt, tf.reduce_sum)
    return [normal, *(function(tf.abs(values)) for function in functions)]


def case_name(case):
    """Returns a case's key in the file, which is the same for one and two replicas."""
    objective, precision, _ = case
    return f"{objective} {precision}"


def read():
    """Returns the content of the file: digests by fingerprint and case, and summaries by case."""
    return json.loads(FILE.read_text())


def _write(content):
    """Writes the file, with a line for each variable."""
    cases = [
        f'  "{case}": {{\n'
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(values)}" for name, values in variables.items())
        + "\n  }"
        for case, variables in content["summaries"].items()
    ]
    digests = json.dumps(content["digests"], indent=1).replace("\n", "\n ")
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(f'{{\n "digests": {digests},\n "summaries": {{\n' + ",\n".join(cases) + "\n }\n}\n")


def write(*, add: bool):
    """Writes the file, or adds this machine's digests to it."""
    strategies = {1: tf.distribute.get_strategy(), 2: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}
    trained = {case: train(case, strategies[case[2]]) for case in CASES}
    digests = {case: digest(variables) for case, variables in trained.items()}
    for case in CASES:
        if digests[case] != digests[*case[:2], 1]:
            raise SystemExit(f"{case_name(case)}: two replicas differ from one")
    content = read() if add else {"digests": {}, "summaries": {case_name(c): summary(trained[c]) for c in CASES}}
    for case in CASES:
        if lines := differences(case, trained[case], content["summaries"][case_name(case)]):
            raise SystemExit(f"{case_name(case)} differs from the file, and nothing is added: {lines[0]}")
    content["digests"][fingerprint()] = {case_name(case): each for case, each in digests.items()}
    _write(content)
