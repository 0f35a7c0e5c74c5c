"""Images, a detector and a model for predictors, so simple that the results are worked out by hand."""

import numpy as np
import pytest
from half_mean import half_mean_run
from PIL import Image

from cae.data import image_io
from cae.outliers.detector import Detector


@pytest.fixture(scope="session")
def run():
    return half_mean_run()


@pytest.fixture(scope="session")
def normal():
    """Bright squares of 4 or 5 pixels somewhere on black, no two alike: of equal neighbors either may be found."""
    random = np.random.default_rng(0)
    images = np.zeros([400, 12, 12, 1], np.uint8)
    for image, (row, column, side) in zip(images, random.integers([2, 2, 4], [6, 6, 6], [400, 3])):
        image[row : row + side, column : column + side] = random.integers(180, 256, [side, side, 1])
    return images


@pytest.fixture(scope="session")
def detector(run, normal):
    return Detector.fit(run.model, normal[:300], normal[300:], score="hog", method="conformal", alpha=0.05)


@pytest.fixture
def decode(tmp_path):
    """Returns pixel values as the image that is decoded from a PNG with them."""

    def decode(values):
        path = tmp_path / "decoded.png"
        Image.fromarray(values).save(path)
        return image_io.read_image(path)

    return decode
