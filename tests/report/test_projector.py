import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client
from werkzeug.wrappers import Response

from cae.report import projector
from cae.report.projector import Projection


class Asked:
    """TensorBoard's own projector, asked as a browser asks it."""

    def __init__(self, logdir):
        runs = EventMultiplexer().AddRunsFromDirectory(str(logdir)).Reload()
        plugin = ProjectorPlugin(
            TBContext(logdir=str(logdir), data_provider=MultiplexerDataProvider(runs, str(logdir)))
        )
        self.clients = {route: Client(app, Response) for route, app in plugin.get_plugin_apps().items()}

    def __call__(self, route, **query):
        answer = self.clients[route].get(query_string=query)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture
def projection(random):
    images = random.integers(0, 256, (5, 6, 4, 3)).astype(np.uint8)
    return Projection(random.normal(size=(5, 3)), images, ["a", "b c", "tab\there", "caf\udce9", " "])


def events(folder):
    with tf.summary.create_file_writer(str(folder)).as_default():
        tf.summary.scalar("mse", 1.0, 0)


def test_tensorboard_finds_everything_in_a_run_and_after_it_was_moved(tmp_path, projection):
    events(tmp_path / "before" / "run")
    projector.write(tmp_path / "before" / "run", projection)
    shutil.move(tmp_path / "before", tmp_path / "after")
    ask = Asked(tmp_path / "after")
    assert json.loads(ask("/runs").data) == ["run"]
    (embedding,) = json.loads(ask("/info", run="run").data)["embeddings"]
    of = {"run": "run", "name": embedding["tensorName"]}
    vectors = np.frombuffer(ask("/tensor", **of).data, np.float32).reshape(embedding["tensorShape"])
    np.testing.assert_allclose(vectors, projection.vectors, rtol=1e-5)
    assert ask("/metadata", **of).text.splitlines() == ["a", "b c", "tab here", "caf\\udce9", "-"]
    assert embedding["sprite"]["singleImageDim"] == [4, 6]
    assert ask("/sprite_image", **of).data == (tmp_path / "after" / "run" / "sprite.png").read_bytes()


def test_a_folder_without_events_is_no_run(tmp_path, projection):
    events(tmp_path / "other")
    (tmp_path / "run").mkdir()
    projector.write(tmp_path / "run", projection)
    assert json.loads(Asked(tmp_path)("/runs").data) == []


def test_images_lie_line_by_line_in_a_square_grid(projection):
    (width, height), grid = projector.sprites(projection.images)
    assert (width, height) == (4, 6) and grid.size == (3 * 4, 3 * 6) and grid.mode == "RGB"
    whole = np.asarray(grid)
    for position, image in enumerate(projection.images):
        line, column = divmod(position, 3)
        np.testing.assert_array_equal(whole[6 * line : 6 * (line + 1), 4 * column : 4 * (column + 1)], image)
    assert (whole[12:] == 0).all()


def test_grey_images_stay_grey_and_floats_become_bytes():
    (_, _), grid = projector.sprites(np.array([0, 0.5, 1, 2]).reshape(4, 1, 1, 1))
    assert grid.mode == "L" and np.asarray(grid).tolist() == [[0, 128], [255, 255]]


def test_no_grid_is_larger_than_a_graphics_card_takes(monkeypatch):
    monkeypatch.setattr(projector, "LONGEST_SIDE", 64)
    images = np.full((10, 20, 40, 1), 200, np.uint8)
    (width, height), grid = projector.sprites(images)
    assert (width, height) == (16, 8) and grid.size == (64, 32) and max(grid.size) <= 64
    assert np.asarray(grid)[:8, :16].min() == 200


def test_unlabelled_vectors_have_no_metadata(tmp_path, projection):
    path = projector.write(tmp_path, Projection(projection.vectors, projection.images))
    assert "metadata" not in path.read_text() and not (tmp_path / "metadata.tsv").exists()
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "vectors.tsv", "sprite.png"}
    assert Image.open(tmp_path / "sprite.png").size == (12, 18)
