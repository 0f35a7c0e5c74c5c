"""Outlier scores of a fixed model on fixed images, as tests/golden/scores.json holds them.

`make golden` writes that file anew, which is only for a change that is meant to change scores.
"""

import json
from pathlib import Path

import numpy as np

from cae import models
from cae.config import Config
from cae.outliers import detector
from cae.outliers.scores import SCORES

PATH = Path(__file__).parent / "golden" / "scores.json"

SHAPE = (14, 18, 3)
"""Rows, columns and channels that cannot be taken for each other."""

SEED, TRAIN, CALIBRATION, NORMAL = 44, 150, 99, 4


def images(random, count):
    """Returns images of smooth colours, uint8 [count, *SHAPE], by additions alone: to the bit the same everywhere."""
    values = np.repeat(np.repeat(random.random((count, 6, 7, 3)), 3, axis=1), 3, axis=2)
    for axis in (1, 2):
        for _ in range(3):
            values = (values + np.roll(values, 1, axis=axis)) / 2
    # Brighter from left to right in red, and from top to bottom in blue.
    values[..., 0] += np.arange(21) / 21
    values[..., 2] += np.arange(18)[:, None] / 18
    return (255 * values[:, 2:16, 2:20] / 2).round().astype(np.uint8)


def tested(random):
    """Returns images [8, *SHAPE]: normal ones, and one each with noise, inverted, mirrored and with colours changed."""
    normal = images(random, NORMAL + 3)
    inverted, mirrored, changed = normal[NORMAL:]
    noise = (255 * random.random(SHAPE)).round().astype(np.uint8)
    odd = [noise, 255 - inverted, mirrored[:, ::-1], changed[..., ::-1]]
    return np.concatenate([normal[:NORMAL], np.stack(odd)])


def fixed_model(random):
    """Returns an autoencoder that was not trained, whose weights are uniform random numbers."""
    model = models.build(Config(latent_dim=6, width=4), SHAPE)
    for variable in model.trainable_variables:
        spread = 2 / np.sqrt(np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.1
        variable.assign(spread * (2 * random.random(variable.shape) - 1))
    # Around the middle grey, so that few outputs are clipped.
    model.trainable_variables[-1].assign_add(0.5 + np.zeros(model.trainable_variables[-1].shape))
    return model


def computed():
    """Returns the scores of the tested images and their p-values, [8] each, by the score's name."""
    random = np.random.default_rng(SEED)
    model, train, calibration, test = (
        fixed_model(random),
        images(random, TRAIN),
        images(random, CALIBRATION),
        tested(random),
    )
    found = {}
    for name in SCORES:
        made = detector.make(name, model, train, calibration, rule="conformal", alpha=0.05)
        scores = made.scores(test)
        found[name] = {"scores": scores.tolist(), "p_values": made.p_values_of(scores).tolist()}
    return found


def stored():
    """Returns what the file holds, as `computed` returns it."""
    return json.loads(PATH.read_text())


if __name__ == "__main__":
    from tests import conftest  # Sets threads and devices as they are in the tests.

    conftest.start_tensorflow()
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(computed(), indent=1) + "\n")
