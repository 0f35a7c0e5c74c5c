import dataclasses
import errno
import weakref

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cae.data import image_files, image_io
from cae.data.image_io import UnreadableImageError
from cae.errors import UserError
from cae.predict.predictor import Predictor, predict_files


class Recorder(Predictor):
    """Records the names of what it is given, and how many decoded images are alive."""

    def __init__(self):
        self.names, self.skips, self.preprocessed, self._alive, self.max_alive = [], [], [], [], 0

    def predict(self, name, decoded, preprocessed):
        self.names.append(name)
        self.preprocessed.append(preprocessed)
        self._alive.append(weakref.ref(decoded))
        self.max_alive = max(self.max_alive, sum(each() is not None for each in self._alive))

    def skip(self, name, error):
        self.skips.append((name, str(error)))

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
    skipped, _ = predict_files(files, predictors, lambda image: int(image.channels[0, 0, 0]))
    assert decoded == [f"{number}.png" for number in range(6)]
    assert skipped == {"3.png": "empty"}
    for predictor in predictors:
        assert predictor.names == [f"{number}.png" for number in (0, 1, 2, 4, 5)]
        assert predictor.preprocessed == [0, 1, 2, 4, 5]
        assert predictor.skips == [("3.png", "empty")]


def test_one_decoded_image_is_held_at_a_time(files):
    predictor = Recorder()
    predict_files(files, [predictor], None)
    assert predictor.max_alive == 1 and predictor.preprocessed == [None] * 5


def test_an_image_that_cannot_be_preprocessed_is_skipped(files):
    def fail(image):
        raise UnreadableImageError("damaged")

    predictor = Recorder()
    skipped, _ = predict_files(files[:2], [predictor], fail)
    assert skipped == {"0.png": "damaged", "1.png": "damaged"} and not predictor.names


def test_file_that_cannot_be_converted_is_skipped(files):
    def preprocess(image):
        if image.channels[0, 0, 0] == 4:
            raise ValueError("conversion from LAB\nnot supported")
        return None

    recorder = Recorder()
    skipped, _ = predict_files(files, [recorder], preprocess)
    assert skipped == {"3.png": "empty", "4.png": "cannot be processed: ValueError: conversion from LAB not supported"}
    assert recorder.names == ["0.png", "1.png", "2.png", "5.png"] and len(recorder.skips) == 2


class Failing(Recorder):
    """Raises an error for one file."""

    def __init__(self, failing, error):
        super().__init__()
        self._failing, self._error = failing, error

    def predict(self, name, decoded, preprocessed):
        if name == self._failing:
            raise self._error
        super().predict(name, decoded, preprocessed)


@pytest.mark.parametrize(
    "error", [ValueError("x\n" * 999), OSError("encoder error"), FileExistsError(errno.EEXIST, "x")]
)
def test_file_that_a_predictor_fails_for_is_skipped_by_all(files, error):
    predictors = [Recorder(), Failing("1.png", error), Recorder()]
    skipped, warnings = predict_files(files, predictors, None)
    assert [*skipped] == ["1.png", "3.png"] and warnings == {}
    assert skipped["1.png"].startswith(f"cannot be processed: {type(error).__name__}: ")
    assert len(skipped["1.png"]) <= 300 and "\n" not in skipped["1.png"]
    assert all([*map(tuple, predictor.skips)] == [*skipped.items()] for predictor in predictors)
    assert predictors[1].names == predictors[2].names == ["0.png", "2.png", "4.png", "5.png"]


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, "") for number in (errno.ENOSPC, errno.EROFS, errno.EACCES)),
        MemoryError(),
        tf.errors.ResourceExhaustedError(None, None, "OOM"),
        UserError("--batch_size"),
        KeyboardInterrupt(),
    ],
)
def test_an_error_that_is_not_of_one_file_ends_the_work(files, error):
    with pytest.raises(type(error)):
        predict_files(files, [Failing("1.png", error)], None)


def test_warnings_of_a_file_that_is_read_are_returned(files, monkeypatch):
    read_image = image_io.read_image

    def read_with_warnings(path):
        return dataclasses.replace(read_image(path), warnings=("guessed", "also") if path.name != "0.png" else ())

    monkeypatch.setattr(image_io, "read_image", read_with_warnings)
    _, warnings = predict_files(files, [Failing("4.png", ValueError())], None)
    assert warnings == dict.fromkeys(["1.png", "2.png", "5.png"], "guessed; also")
