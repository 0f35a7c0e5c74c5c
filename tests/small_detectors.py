"""Detectors of smooth images, fitted in a moment with a model of four latent dimensions."""

import functools

import keras
import numpy as np
import tensorflow as tf
from clouds import SHAPE, make_clouds

from cae.outliers.calibration_classes import CalibrationClasses
from cae.outliers.detector import Detector


class QuartersAutoencoder(keras.Model):
    """Encodes an image as the means of its four quarters, and decodes these to constant quarters."""

    has_clusters = True

    def embeddings(self, images, latents):
        means = tf.reduce_mean(images, axis=2)[..., 0]
        return {"latents": latents, "rows": means, "edges": means[:, 1:] - means[:, :-1]}

    def encode(self, images):
        return tf.reshape(tf.nn.avg_pool2d(images, 6, 6, "VALID"), [-1, 4])

    def decode(self, latents):
        return tf.repeat(tf.repeat(tf.reshape(latents, [-1, 2, 2, 1]), 6, axis=1), 6, axis=2)

    def call(self, images):
        return self.decode(self.encode(images))


MODEL = QuartersAutoencoder()
TRAIN, CALIBRATION, TEST = make_clouds(1, 300), make_clouds(2, 199), make_clouds(3, 200)
LABELS, NAMES = 3 * (np.arange(199) % 3 == 1), {0: "round", 3: "square"}
NOISE = 255 * np.random.default_rng(4).integers(0, 2, (20, *SHAPE), np.uint8)


@functools.cache
def fit(score="mse", method="conformal", alpha=None, num_calibration=199, num_outliers=0, step=0, labeled=False):
    """Returns a detector, which is immutable and so the same for the same arguments."""
    options = {"score": score, "method": method, "alpha": alpha, "step": step}
    outliers = NOISE[:num_outliers] if num_outliers else None
    classes = CalibrationClasses(LABELS[:num_calibration], NAMES) if labeled else None
    return Detector.fit(MODEL, TRAIN, CALIBRATION[:num_calibration], outliers=outliers, classes=classes, **options)
