"""Outlier scores of a fixed model on fixed images, as in tests/golden/scores.json.

`make golden` writes that file; run it only for a change that is meant to change scores.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from cae import models
from cae.config import Config
from cae.outliers.detector import Detector
from cae.outliers.scores import SCORES

PATH = Path(__file__).parent / "golden" / "scores.json"

SHAPE = (14, 18, 3)
"""Height, width and channels, all different so that swapped axes are noticed."""

SEED, NUM_TRAIN, NUM_CALIBRATION, NUM_INLIERS = 44, 150, 99, 4


def make_images(random, count):
    """Returns images of smooth colors, uint8 [count, *SHAPE], by additions alone: the same bits on every machine."""
    values = np.repeat(np.repeat(random.random((count, 6, 7, 3)), 3, axis=1), 3, axis=2)
    for axis in (1, 2):
        for _ in range(3):
            values = (values + np.roll(values, 1, axis=axis)) / 2
    # Brighter from left to right in red, and from top to bottom in blue.
    values[..., 0] += np.arange(21) / 21
    values[..., 2] += np.arange(18)[:, None] / 18
    return (255 * values[:, 2:16, 2:20] / 2).round().astype(np.uint8)


def make_test_images(random):
    """Returns images [8, *SHAPE]: inliers, then noise, and an inverted, a flipped and a recolored image."""
    images = make_images(random, NUM_INLIERS + 3)
    inverted, flipped, recolored = images[NUM_INLIERS:]
    noise = (255 * random.random(SHAPE)).round().astype(np.uint8)
    outliers = [noise, 255 - inverted, flipped[:, ::-1], recolored[..., ::-1]]
    return np.concatenate([images[:NUM_INLIERS], np.stack(outliers)])


def make_model(random, name="conv"):
    """Returns an untrained autoencoder with uniformly random weights."""
    config = Config(latent_dim=6, base_filters=4, num_clusters="3,4")
    model = models.build_model(dataclasses.replace(config, model=name, noise="affine:0.4"), SHAPE)
    for variable in model.variables:
        spread = 2 / np.sqrt(np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.1
        variable.assign(spread * (2 * random.random(variable.shape) - 1))
    # Outputs around middle gray, so that few are clipped.
    bias = model.decoder.trainable_variables[-1]
    bias.assign_add(0.5 + np.zeros(bias.shape))
    return model


def compute():
    """Returns the scores of the test images and their p-values, [8] each, by the score's name."""
    random = np.random.default_rng(SEED)
    model, train = make_model(random), make_images(random, NUM_TRAIN)
    clustered = make_model(np.random.default_rng(SEED), "deep_cluster")
    calibration, test = make_images(random, NUM_CALIBRATION), make_test_images(random)
    computed = {}
    for name in SCORES:
        of_score = clustered if SCORES[name].needs == "embeddings" else model
        detector = Detector.fit(of_score, train, calibration, score=name, method="conformal", alpha=0.05)
        scores = detector.scores(test)
        computed[name] = {"scores": scores.tolist(), "p_values": detector.p_values_from_scores(scores).tolist()}
    return computed


def load():
    """Returns the content of the file, as `compute` returns it."""
    return json.loads(PATH.read_text())


def write():
    """Writes the file."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(compute(), indent=1) + "\n")
