"""Golden weights: what 20 steps of training make of small models, and the machine's numerics that they hold for.

`make golden` renews tests/golden/weights.json, and is only for a change that is meant to change numbers; `make golden
ADD=--add` keeps it and adds the digests of another machine, whose weights must agree within the tolerances.
"""

import argparse
import functools
import hashlib
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cae.config import Config
from cae.data import noise, pipeline, sources
from cae.training import build, distribution, objectives, steps

FILE = Path(__file__).resolve().parents[1] / "golden/weights.json"

STEPS, BATCH_SIZE, IMAGES = 20, 8, 44

# Sides that are padded and halved twice, and colours, so that every kind of layer and the order of channels count.
IMAGE_SHAPE = (18, 18, 3)

OBJECTIVES = {"conv": {}, "vae": {"model": "vae"}, "acai": {"regularizer": "acai"}}

CASES = [
    (objective, precision, replicas)
    for objective in OBJECTIVES
    for precision in ("float32", "mixed_float16")
    for replicas in (1, 2)
]

VALUES = 4
"""Numbers of a variable that are kept as they are, beside its sum and its norm."""


def made_up():
    """Returns a data set of images that NumPy makes: shades of color with a disk, and a little noise."""
    random = np.random.default_rng(0)
    height, width, channels = IMAGE_SHAPE
    y, x = np.mgrid[:height, :width]
    images = np.empty((IMAGES, *IMAGE_SHAPE), np.uint8)
    for image in images:
        disk = (y - random.integers(4, 14)) ** 2 + (x - random.integers(4, 14)) ** 2 < random.integers(9, 36)
        colors = random.integers(0, 200, (2, channels))
        image[:] = np.where(disk[..., None], *colors) + random.integers(0, 56, IMAGE_SHAPE)
    return sources.Source(
        name="made up",
        image_shape=IMAGE_SHAPE,
        class_names=(),
        splits={"train": sources.Split(IMAGES, "made"), "validation": sources.Split(IMAGES, "made")},
        read=lambda _: (images, np.zeros(IMAGES, np.int64)),
    )


def train(case, strategy):
    """Returns what 20 steps end with, by name: sums of losses, weights, optimizers' slots, counts and loss scales."""
    objective, precision, _ = case
    settings = Config(
        width=4, latent_dim=4, batch_size=BATCH_SIZE, epochs=5, precision=precision, learning_rate=0.004,
        lr_schedule="cosine", noise="gaussian:0.1-0.5", **OBJECTIVES[objective],
    )  # fmt: skip
    feed = pipeline.feed(made_up(), noise.parse(settings.noise), BATCH_SIZE, settings.seed)
    try:
        state = build.build_state(strategy, settings, IMAGE_SHAPE, feed.steps(settings.epochs))
        train_steps = steps.make_train_steps(strategy, state, objectives.find(settings), BATCH_SIZE)
        batches = distribution.shared_out(strategy, feed.training(0, STEPS), endless=True)
        _, good = train_steps(iter(batches), tf.constant(STEPS))
    finally:
        keras.config.set_dtype_policy("float32")
    assert state.steps == STEPS and int(good) == STEPS
    players = {"model": state} | ({"critic": state.critic} if state.critic else {})
    # Keras' own names count the layers of a process.
    return {"losses": state.tally.sums.numpy()} | {
        f"{player}.{kind} {number} {'x'.join(map(str, variable.shape))}": variable.numpy()
        for player, of in players.items()
        for kind, variables in (("weights", of.model.variables), ("optimizer", of.optimizer.variables))
        for number, variable in enumerate(variables)
    }


def digest(variables):
    """Returns the SHA-256 of all variables."""
    found = hashlib.sha256()
    for name, value in variables.items():
        found.update(name.encode() + str(value.dtype).encode() + value.tobytes())
    return found.hexdigest()


def summary(variables):
    """Returns of each variable [sum, L2 norm, some of its values], in float64."""
    found = {}
    for name, value in variables.items():
        flat = value.astype(np.float64).ravel()
        some = flat[np.linspace(0, flat.size - 1, VALUES).astype(int)]
        found[name] = [float(f"{each:.9g}") for each in (flat.sum(), np.linalg.norm(flat), *some)]
    return found


TOLERANCES = {"float32": 1e-4, "mixed_float16": 4e-2}
"""How far numbers may be from the file's on a machine that computes otherwise, as a share of a variable's L2 norm."""


def differences(case, variables, held):
    """Returns in words which variables are further from their summaries in the file than the tolerance allows.

    Sums of n numbers may differ sqrt(n) times as much. Float16 leaves of most numbers but their order of magnitude:
    norms of kernels, and losses, are compared.
    """
    _, precision, _ = case
    tolerance, found = TOLERANCES[precision], []
    summaries = summary(variables)
    if summaries.keys() != held.keys():
        return [f"other variables: {sorted(summaries.keys() ^ held.keys())}"]
    for name, value in variables.items():
        there, here = np.array(held[name]), np.array(summaries[name])
        shares = np.abs(here - there) / max(there[1], 1e-12)
        shares[0] /= max(value.size, 1) ** 0.5
        if precision != "float32":
            counts = name == "losses" or (".weights" in name and value.ndim > 1)
            shares = shares[1:2] if counts else shares[:0]
        if not (shares <= tolerance).all():  # True for NaN as well.
            found.append(f"{name}: {here} is not {there}: {shares.max():.1e} of its norm")
    return found


def fingerprint():
    """Returns the SHA-256 of what TensorFlow alone computes here, and of its and Keras' versions.

    Convolutions of the shapes in the models, with their gradients, products of matrices, elementary functions, and
    normal numbers: in float32 and in float16, in a graph, where operations may be fused.
    """
    found = hashlib.sha256(f"tensorflow {tf.__version__} keras {keras.__version__}".encode())
    random = np.random.default_rng(1)
    for dtype in (np.float32, np.float16):

        def results(operation, *shapes, dtype=dtype):
            # Arguments, since on constants a graph is computed as it is made, by other kernels.
            return tf.function(operation)(*(tf.constant(random.standard_normal(shape), dtype) for shape in shapes))

        # A part of a batch has two images, and twice as many are decoded for the critic.
        for images in (2, 4):
            for side, inputs, filters, strides in ((10, 12, 4, 1), (10, 4, 4, 1), (10, 4, 16, 2), (10, 4, 12, 1)):
                shapes = (images, side, side, inputs), (3, 3, inputs, filters), (filters,)
                _add(found, results(functools.partial(_convolution, strides), *shapes))
            _add(found, results(_transposed_convolution, (images, 5, 5, 16), (3, 3, 4, 16)))
            for inputs, outputs in ((400, 4), (4, 400), (400, 32)):
                _add(found, results(_products, (images, inputs), (inputs, outputs)))
        _add(found, results(_functions, (1000,)))
    return found.hexdigest()


def _add(found, results):
    for each in results:
        found.update(each.numpy().tobytes())


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
    drawn = tf.random.stateless_normal(values.shape, [0, 1], dtype=values.dtype)
    functions = (tf.exp, tf.math.log, tf.tanh, tf.math.rsqrt, tf.sqrt, tf.reduce_sum)
    return [drawn, *(function(tf.abs(values)) for function in functions)]


def name_of(case):
    """Returns a case's name in the file."""
    objective, precision, _ = case
    return f"{objective} {precision}"


def read():
    """Returns the content of the file: digests by fingerprint and case, and summaries by case.

    One replica and two have the same.
    """
    return json.loads(FILE.read_text())


def _write(content):
    """Writes the file, a line for each variable."""
    cases = [
        f'  "{case}": {{\n'
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in of.items())
        + "\n  }"
        for case, of in content["summaries"].items()
    ]
    digests = json.dumps(content["digests"], indent=1).replace("\n", "\n ")
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(f'{{\n "digests": {digests},\n "summaries": {{\n' + ",\n".join(cases) + "\n }\n}\n")


def main():
    """Writes the file, or adds this machine's digests to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", action="store_true", help="keep what is there, and add this machine's digests")
    add = parser.parse_args().add
    strategies = {1: tf.distribute.get_strategy(), 2: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}
    trained = {case: train(case, strategies[case[2]]) for case in CASES}
    digests = {case: digest(variables) for case, variables in trained.items()}
    for case in CASES:
        if digests[case] != digests[*case[:2], 1]:
            raise SystemExit(f"{name_of(case)}: two replicas do not do what one does")
    content = read() if add else {"digests": {}, "summaries": {name_of(c): summary(trained[c]) for c in CASES}}
    for case in CASES:
        if told := differences(case, trained[case], content["summaries"][name_of(case)]):
            raise SystemExit(f"{name_of(case)} is not what it was, so that nothing is added: {told[0]}")
    content["digests"][fingerprint()] = {name_of(case): each for case, each in digests.items()}
    _write(content)


if __name__ == "__main__":
    from tests import conftest  # Sets threads and devices as they are in the tests.

    conftest.start_tensorflow()
    main()
