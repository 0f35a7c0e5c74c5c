"""The 1,797 handwritten digits that scikit-learn contains: a data set without a download."""

import functools

import numpy as np
from PIL import Image

from cae.config import Config
from cae.data.image_dataset import ImageDataset
from cae.data.resizing import resize_with_pad
from cae.data.splits import Images, make_array_splits


def open_digits(config: Config) -> ImageDataset:
    """Returns the digits in the size and channels of a configuration, by default 28x28 and grayscale."""
    size = config.image_size or 28
    images, labels = _load(size, config.channels or 1)
    return ImageDataset(
        name="digits",
        image_shape=images.shape[1:],
        class_names=tuple("0123456789"),
        splits=make_array_splits("--dataset=digits", images, labels, "permuted images"),
    )


@functools.cache
def _load(size: int, channels: int) -> Images:
    from sklearn.datasets import load_digits  # Takes a second to import.

    digits = load_digits()
    # RandomState's stream never changes, so that all versions of NumPy make the same splits.
    order = np.random.RandomState(0).permutation(len(digits.images))
    images = np.stack([_enlarge(digits.images[index], size, channels) for index in order])
    return images, digits.target[order].astype(np.int64)


def _enlarge(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Returns an 8x8 image of values in 0..16 as uint8 [size, size, channels], centered as MNIST's digits are."""
    large = Image.fromarray((image * 255 / 16).astype(np.float32)).resize((24, 24), Image.Resampling.BICUBIC)
    centered = np.pad(np.asarray(large).clip(0, 255).round().astype(np.uint8), 2)
    return resize_with_pad(Image.fromarray(centered), size, size, channels)
