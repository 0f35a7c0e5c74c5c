"""Scores of smooth images, fitted in a moment with models that are worked out by hand."""

import keras
import numpy as np
import tensorflow as tf
from clouds import make_clouds

from cae.outliers import forward
from cae.outliers import score as score_module
from cae.outliers.scores import SCORES

SIDE = 12
# The nine lowest cosine frequencies of an image, orthonormal: [144, 9].
COSINES = np.cos(np.pi * np.arange(3)[:, None] * (np.arange(SIDE) + 0.5) / SIDE)
COSINES = np.einsum("ih,jw->hwij", COSINES, COSINES).reshape(SIDE * SIDE, 9)
COSINES = (COSINES / np.linalg.norm(COSINES, axis=0)).astype(np.float32)


class CosineAutoencoder(keras.Model):
    """Encodes an image as its coefficients of nine cosines, and decodes their sum."""

    def encode(self, images):
        return tf.reshape(images, [-1, SIDE * SIDE]) @ COSINES

    def decode(self, latents):
        return tf.clip_by_value(tf.reshape(latents @ COSINES.T, [-1, SIDE, SIDE, 1]), 0.0, 1.0)

    has_clusters = True

    def embeddings(self, images, latents):
        rows, columns = tf.reduce_mean(images, axis=[2, 3]), tf.reduce_mean(images, axis=[1, 3])
        return {"latents": latents, "rows": rows, "columns": columns}

    def call(self, images):
        return self.decode(self.encode(images))


class BlurModel(keras.Model):
    """Has no latent vectors, and returns means of 3x3 pixels."""

    def call(self, images):
        return tf.nn.avg_pool2d(images, 3, 1, "SAME")


def make_noise(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)


FORWARD = {"cosines": forward.make_forward(CosineAutoencoder()), "blur": forward.make_forward(BlurModel())}
TRAIN, TEST = make_clouds(1, 300), make_clouds(2, 24)


def fit(name, model="cosines", images=TRAIN):
    score = SCORES[name]()
    score.fit(images, FORWARD[model])
    return score


def compute(score, images, model="cosines"):
    return score_module.compute_scores(score, images, FORWARD[model])


def forward_arrays(images, model="cosines"):
    """Returns images, outputs and latent vectors as arrays."""
    (outputs,) = FORWARD[model](images)
    return outputs.image.numpy(), outputs.output.numpy(), None if outputs.latent is None else outputs.latent.numpy()
