import numpy as np
import pytest
import tensorflow_datasets as tfds

from cae.config import Config
from cae.data import datasets
from cae.data.tfds import get_builder
from cae.errors import UserError


class MadeUpShapes(tfds.core.GeneratorBasedBuilder):
    """Color images of many sizes, with unusual feature names, and a validation split but no test split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3)),
            "kind": tfds.features.ClassLabel(names=["dark", "bright"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._examples(24), "validation": self._examples(6)}

    def _generate_examples(self):
        raise NotImplementedError

    def _examples(self, count):
        for number in range(count):
            value = 255 if number % 2 else 0
            yield number, {"picture": np.full((20 + number, 40, 3), value, np.uint8), "kind": number % 2}


class MadeUpSound(tfds.core.GeneratorBasedBuilder):
    """No images at all."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"loudness": np.float32}))

    def _split_generators(self, manager):
        return {"train": iter([(0, {"loudness": 1.0})])}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    for builder in (MadeUpShapes, MadeUpSound):
        builder(data_dir=folder).download_and_prepare()
    return folder


def test_any_prepared_image_data_set_is_opened_by_its_name(data_dir):
    dataset = datasets.open_dataset(Config(dataset="made_up_shapes", data_dir=data_dir, image_size=16, channels=1))
    assert dataset.image_shape == (16, 16, 1) and dataset.class_names == ("dark", "bright")
    # The validation split takes the place of the missing test split.
    assert [len(split) for split in dataset.splits.values()] == [20, 2, 2, 6]
    images, labels = dataset.load("train")
    assert images.shape == (20, 16, 16, 1)
    assert (images.mean(axis=(1, 2, 3)) == labels * 255).all()


def test_images_of_many_sizes_need_an_image_size(data_dir):
    with pytest.raises(UserError, match="images of many sizes: set --image_size"):
        datasets.open_dataset(Config(dataset="made_up_shapes", data_dir=data_dir))


def test_a_set_without_images_is_refused(data_dir):
    with pytest.raises(UserError, match="made_up_sound has no 8-bit images"):
        datasets.open_dataset(Config(dataset="made_up_sound", data_dir=data_dir))


def test_a_missing_version_is_a_one_line_error(data_dir):
    with pytest.raises(UserError, match=r"--dataset=mnist:9\.9\.9"):
        get_builder("mnist:9.9.9", data_dir)
