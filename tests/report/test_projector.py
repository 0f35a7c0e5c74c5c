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


class ProjectorClient:
    """TensorBoard's projector, which receives the requests of a browser."""

    def __init__(self, logdir):
        runs = EventMultiplexer().AddRunsFromDirectory(str(logdir)).Reload()
        plugin = ProjectorPlugin(
            TBContext(logdir=str(logdir), data_provider=MultiplexerDataProvider(runs, str(logdir)))
        )
        self.clients = {route: Client(app, Response) for route, app in plugin.get_plugin_apps().items()}

    def __call__(self, route, **query):
        response = self.clients[route].get(query_string=query)
        assert response.status_code == 200, response.text
        return response


@pytest.fixture
def projection(random):
    images = random.integers(0, 256, (5, 6, 4, 3)).astype(np.uint8)
    return Projection(random.normal(size=(5, 3)), images, ["a", "b c", "tab\there", "caf\udce9", " "])


def write_events(folder):
    with tf.summary.create_file_writer(str(folder)).as_default():
        tf.summary.scalar("mse", 1.0, 0)


def test_tensorboard_finds_all_files_after_a_run_was_moved(tmp_path, projection):
    write_events(tmp_path / "before" / "run")
    projector.write_projection(tmp_path / "before" / "run", projection)
    shutil.move(tmp_path / "before", tmp_path / "after")
    get = ProjectorClient(tmp_path / "after")
    assert json.loads(get("/runs").data) == ["run"]
    (embedding,) = json.loads(get("/info", run="run").data)["embeddings"]
    of = {"run": "run", "name": embedding["tensorName"]}
    vectors = np.frombuffer(get("/tensor", **of).data, np.float32).reshape(embedding["tensorShape"])
    np.testing.assert_allclose(vectors, projection.vectors, rtol=1e-5)
    assert get("/metadata", **of).text.splitlines() == ["a", "b c", "tab\\there", "caf\\udce9", "-"]
    assert embedding["sprite"]["singleImageDim"] == [4, 6]
    assert get("/sprite_image", **of).data == (tmp_path / "after" / "run" / "sprite.png").read_bytes()


def test_a_folder_without_events_is_not_a_run(tmp_path, projection):
    write_events(tmp_path / "other")
    (tmp_path / "run").mkdir()
    projector.write_projection(tmp_path / "run", projection)
    assert json.loads(ProjectorClient(tmp_path)("/runs").data) == []


def test_a_sprite_has_the_images_row_by_row_in_a_square_grid(projection):
    (width, height), grid = projector.make_sprite(projection.images)
    assert (width, height) == (4, 6) and grid.size == (3 * 4, 3 * 6) and grid.mode == "RGB"
    pixels = np.asarray(grid)
    for index, image in enumerate(projection.images):
        row, column = divmod(index, 3)
        np.testing.assert_array_equal(pixels[6 * row : 6 * (row + 1), 4 * column : 4 * (column + 1)], image)
    assert (pixels[12:] == 0).all()


def test_gray_images_stay_gray_and_floats_become_bytes():
    (_, _), grid = projector.make_sprite(np.array([0, 0.5, 1, 2]).reshape(4, 1, 1, 1))
    assert grid.mode == "L" and np.asarray(grid).tolist() == [[0, 128], [255, 255]]


def test_large_sprites_are_shrunk(monkeypatch):
    monkeypatch.setattr(projector, "MAX_SPRITE_SIDE", 64)
    images = np.full((10, 20, 40, 1), 200, np.uint8)
    (width, height), grid = projector.make_sprite(images)
    assert (width, height) == (16, 8) and grid.size == (64, 32) and max(grid.size) <= 64
    assert np.asarray(grid)[:8, :16].min() == 200


def test_unlabeled_vectors_have_no_metadata(tmp_path, projection):
    path = projector.write_projection(tmp_path, Projection(projection.vectors, projection.images))
    assert "metadata" not in path.read_text() and not (tmp_path / "metadata.tsv").exists()
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "vectors.tsv", "sprite.png"}
    assert Image.open(tmp_path / "sprite.png").size == (12, 18)
