"""A model and images so simple that the results are worked out by hand."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from half_mean import half_mean_run

from cae.data import pipeline
from cae.data.image_dataset import ImageDataset
from cae.data.splits import ArraySplit
from cae.tasks.context import EvalContext

LABELS = np.array([2, 0, 0, 1, 2, 2, 0, 1])


class Black(keras.Model):
    """Has no latent vectors, and returns black images."""

    def call(self, images):
        return 0.0 * images


@pytest.fixture(scope="session")
def clean():
    """The value of all pixels of each test image."""
    return np.arange(8) * 30 / 255


@pytest.fixture(scope="session")
def labels():
    return LABELS


@pytest.fixture(scope="module")
def context():
    """An `EvalContext`; `dataclasses.replace` changes it."""
    values = np.arange(8, dtype=np.uint8) * 30
    images = np.tile(values[:, None, None, None], (1, 12, 12, 1))

    splits = {"test": ArraySplit(8, "synthetic", lambda: [(images, LABELS)])}
    splits |= {"validation": splits["test"], "train": splits["test"]}
    dataset = ImageDataset("synthetic", (12, 12, 1), ("a", "b", "c"), splits)
    return EvalContext(
        run=half_mean_run(),
        batches=pipeline.make_eval_batches(dataset, seed=0, batch_size=3),
        load=dataset.load,
        noises=["salt_pepper:0.5", "gaussian:0.1", "gaussian:0.2", "none"],
        class_names=["a", "b", "c"],
        num_examples=6,
        comparison_runs={"black": SimpleNamespace(model=Black(), noise=None)},
        baseline_images=5,
    )
