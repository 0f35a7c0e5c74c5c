import weakref

import numpy as np
import pytest
from PIL import Image

from cae.data import image_files, image_io
from cae.data.image_io import UnreadableImageError
from cae.predict.predictor import Predictor, predict_files


class Recorder(Predictor):
    """Records the names of what it is given, and how many decoded images are alive."""

    def __init__(self):
        self.names, self.skipped, self.preprocessed, self._alive, self.max_alive = [], [], [], [], 0

    def predict(self, name, decoded, preprocessed):
        self.names.append(name)
        self.preprocessed.append(preprocessed)
        self._alive.append(weakref.ref(decoded))
        self.max_alive = max(self.max_alive, sum(each() is not None for each in self._alive))

    def skip(self, name, error):
        self.skipped.append((name, str(error)))

    def finish(self):
        return []


@pytest.fixture
def files(tmp_path):
    for number in range(6):
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"")
    return image_files.list_images(str(tmp_path))


def test_each_file_is_decoded_once_for_all_predictors(files, monkeypatch):
    read_image, decoded = image_io.read_image, []
    monkeypatch.setattr(image_io, "read_image", lambda path: decoded.append(path.name) or read_image(path))
    predictors = [Recorder(), Recorder(), Recorder()]
    skipped = predict_files(files, predictors, lambda image: int(image.channels[0, 0, 0]))
    assert decoded == [f"{number}.png" for number in range(6)]
    assert skipped == {"3.png": "empty"}
    for predictor in predictors:
        assert predictor.names == [f"{number}.png" for number in (0, 1, 2, 4, 5)]
        assert predictor.preprocessed == [0, 1, 2, 4, 5]
        assert predictor.skipped == [("3.png", "empty")]


def test_one_decoded_image_is_held_at_a_time(files):
    predictor = Recorder()
    predict_files(files, [predictor], None)
    assert predictor.max_alive == 1 and predictor.preprocessed == [None] * 5


def test_an_image_that_cannot_be_preprocessed_is_skipped(files):
    def fail(image):
        raise UnreadableImageError("damaged")

    predictor = Recorder()
    skipped = predict_files(files[:2], [predictor], fail)
    assert skipped == {"0.png": "damaged", "1.png": "damaged"} and not predictor.names


def test_file_that_cannot_be_converted_is_skipped(files):
    def preprocess(image):
        if image.channels[0, 0, 0] == 4:
            raise ValueError("conversion from LAB\nnot supported")
        return None

    recorder = Recorder()
    skipped = predict_files(files, [recorder], preprocess)
    assert skipped == {"3.png": "empty", "4.png": "cannot be converted: conversion from LAB not supported"}
    assert recorder.names == ["0.png", "1.png", "2.png", "5.png"] and len(recorder.skipped) == 2
