import numpy as np
import pytest
import tensorflow_datasets as tfds

from cae.config import Config
from cae.data import prepared, sources
from cae.errors import UserError


class MadeUpShapes(tfds.core.GeneratorBasedBuilder):
    """Colour images of many sizes, under names of their own, with a validation split and no test split."""

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


def test_any_prepared_set_of_images_is_read_by_its_name(data_dir):
    source = sources.open_source(Config(dataset="made_up_shapes", data_dir=data_dir, image_size=16, channels=1))
    assert source.image_shape == (16, 16, 1) and source.class_names == ("dark", "bright")
    # Its validation split is held out, and stands in for the test split that it lacks.
    assert [split.images for split in source.splits.values()] == [20, 2, 2, 6]
    images, labels = source.read("train")
    assert images.shape == (20, 16, 16, 1)
    assert (images.mean(axis=(1, 2, 3)) == labels * 255).all()


def test_images_of_many_sizes_need_one(data_dir):
    with pytest.raises(UserError, match="images of many sizes: say --image_size"):
        sources.open_source(Config(dataset="made_up_shapes", data_dir=data_dir))


def test_a_set_without_images_is_refused(data_dir):
    with pytest.raises(UserError, match="made_up_sound holds no 8-bit images"):
        sources.open_source(Config(dataset="made_up_sound", data_dir=data_dir))


def test_a_version_that_does_not_exist_is_told_in_one_line(data_dir):
    with pytest.raises(UserError, match=r"--dataset=mnist:9\.9\.9"):
        prepared.builder("mnist:9.9.9", data_dir)
