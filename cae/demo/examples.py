"""Images to click: test images, and outliers made from them."""

import dataclasses

import numpy as np

from cae.data.image_dataset import ImageDataset
from cae.data.outlier_sets import OUTLIERS, load_class_outliers, make_outliers
from cae.io_utils import printable

MAX_EXAMPLES = 10
"""Of inliers; there are as many classes at most."""

SEED = 0


@dataclasses.dataclass(frozen=True)
class Example:
    """An image and what it is.

    Attributes:
      name: A caption.
      image: uint8 [height, width, channels].
    """

    name: str
    image: np.ndarray


def choose_inliers(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> list[Example]:
    """Returns the first image of each class, or the first images where there is one class at most.

    Args:
      images: uint8 [n, height, width, channels].
      labels: int [n].
      class_names: By label; empty for unlabeled images.
    """
    indices = np.unique(labels, return_index=True)[1][:MAX_EXAMPLES] if len(class_names) > 1 else []
    if len(indices) < 2:
        return [Example(f"image {index}", image) for index, image in enumerate(images[:MAX_EXAMPLES])]
    return [Example(printable(class_names[labels[index]]), images[index]) for index in indices.tolist()]


def make_outlier_examples(inliers: list[Example], dataset: ImageDataset) -> list[Example]:
    """Returns one image of each class that only other splits than train have, and of each synthetic set."""
    images, _ = load_class_outliers(dataset, 1)
    known = [Example(name, each[0]) for name, each in images.items() if len(each)]
    stack, made = np.stack([each.image for each in inliers]), []
    for position, name in enumerate(OUTLIERS):
        outliers = make_outliers(name, stack, SEED)
        if len(outliers):
            made.append(Example(name.replace("_", " "), outliers[position % len(outliers)]))
    return known[:MAX_EXAMPLES] + made
