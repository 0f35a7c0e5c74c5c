import dataclasses
import http.server
import socket
import threading
import time

import numpy as np
import pytest
import requests
from PIL import Image

from cae.config import Config
from cae.data import prepared, sources
from cae.errors import UserError

DIGITS = Config(dataset="digits")


def assert_disjoint(parts):
    """No image stands in two splits, as far as images of one content are one."""
    hashes = [{image.tobytes() for image in images} for images in parts]
    assert sum(map(len, hashes)) == len(set().union(*hashes))


def test_digits_are_there_without_a_network(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked the network"))
    source = sources.open_source(DIGITS)
    sizes = {name: split.images for name, split in source.splits.items()}
    # 1,797 images at 10 : 1 : 1 : 2.
    assert sizes == {"train": 1285, "validation": 128, "calibration": 128, "test": 256}
    assert source.image_shape == (28, 28, 1) and source.class_names == tuple("0123456789")
    parts = [source.read(name) for name in sources.SPLITS]
    assert [len(images) for images, _ in parts] == list(sizes.values())
    assert_disjoint([images for images, _ in parts])
    assert all(set(labels) == set(range(10)) for _, labels in parts)


def test_digits_are_centred_as_mnist_is():
    images, _ = sources.open_source(DIGITS).read("train")
    assert images.dtype == np.uint8 and images.max() == 255
    assert images[:, :2].max() == images[:, :, -2:].max() == 0


def test_splits_are_the_same_every_time():
    first, second = (sources.open_source(DIGITS).read("test")[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_size_and_channels_can_be_said():
    source = sources.open_source(dataclasses.replace(DIGITS, image_size=33, channels=3))
    assert source.image_shape == (33, 33, 3) == source.read("test")[0].shape[1:]


def test_official_splits_are_cut_as_mnist_is():
    cuts = sources._official_splits("mnist", {"train": 60_000, "test": 10_000})
    assert cuts == {
        "train": ("train", 0, 50_000),
        "validation": ("train", 50_000, 55_000),
        "calibration": ("train", 55_000, 60_000),
        "test": ("test", 0, 10_000),
    }


def test_a_lone_official_split_is_cut_in_four():
    cuts = sources._official_splits("flowers", {"train": 70_000})
    assert [stop - start for _, start, stop in cuts.values()] == [50_000, 5_000, 5_000, 10_000]


@pytest.fixture
def folder(tmp_path, random):
    for number in range(30):
        Image.fromarray(random.integers(0, 256, (20, 30), np.uint8)).save(tmp_path / f"{number}.png")
    return Config(dataset=f"folder:{tmp_path}")


def test_a_folder_has_four_disjoint_splits_that_are_recorded(folder):
    source = sources.open_source(folder)
    assert [split.images for split in source.splits.values()] == [22, 2, 2, 4]
    assert_disjoint([source.read(name)[0] for name in sources.SPLITS])
    assert source.describe()["splits"]["test"] == {"images": 4, "origin": "files by hashed name[26:30]"}
    assert source.describe()["class_names"] == []


def test_a_folder_that_changed_has_another_fingerprint(folder, tmp_path):
    before = sources.open_source(folder).fingerprint
    (tmp_path / "0.png").rename(tmp_path / "other.png")
    assert sources.open_source(folder).fingerprint != before


def test_too_few_images_and_too_large_a_batch_are_refused(folder, tmp_path):
    source = sources.open_source(folder)
    with pytest.raises(UserError, match=r"--batch_size=128 is more than the 22 training images"):
        sources.check(source, 128)
    sources.check(source, 22)
    for path in list(tmp_path.iterdir())[13:]:
        path.unlink()
    with pytest.raises(UserError, match=r"has 13 images; 14 are needed"):
        sources.open_source(folder)


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match=r"--image_size=8 must be at least 11"):
        sources.open_source(dataclasses.replace(DIGITS, image_size=8))


def test_images_that_do_not_fit_in_memory_are_refused():
    source = dataclasses.replace(sources.open_source(DIGITS), image_shape=(200_000, 200_000, 3))
    with pytest.raises(UserError, match=r"GiB of memory.*smaller --image_size"):
        sources.check(source, 8)


def test_an_unknown_data_set_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"unknown --dataset 'mnits'.*did you mean 'mnist'"):
        sources.open_source(Config(dataset="mnits", data_dir=str(tmp_path)))


# --- A data set that is neither prepared nor reachable ---------------------------------------------------------------


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(prepared.requests, "get", refuse)
    return Config(dataset="mnist", data_dir=str(tmp_path))


def test_without_a_fallback_one_line_says_what_to_do(unreachable):
    with pytest.raises(UserError, match=r"neither|not prepared.*--data_dir.*--fallback_dataset=digits"):
        sources.open_source(unreachable)


def test_the_fallback_is_taken_with_a_warning(unreachable):
    source = sources.open_source(dataclasses.replace(unreachable, fallback_dataset="digits"))
    assert source.name == "digits"
    assert "--dataset=mnist is not prepared" in source.warning and "'digits' instead" in source.warning


@pytest.fixture
def host():
    """Starts a host on this machine that answers with a status, and says which paths it was asked for."""
    servers = []

    def start(status):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_data_set_is_reachable_where_a_file_of_each_host_answers(host):
    (first, first_url), (second, second_url) = host(200), host(200)
    assert prepared._reachable([f"{first_url}/a", f"{first_url}/b", f"{second_url}/c"])
    assert first.asked == ["/b"] and second.asked == ["/c"]
    _, closed_url = host(403)
    assert not prepared._reachable([f"{first_url}/a", f"{closed_url}/a"])


def test_a_host_that_takes_the_call_and_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(prepared, "SECONDS_TO_REACH", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not prepared._reachable([f"http://127.0.0.1:{silent.getsockname()[1]}/a"])
        assert time.monotonic() - start < 10


# --- Real data -------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_mnist_as_it_is(tfds_dir):
    source = sources.open_source(Config(dataset="mnist", data_dir=tfds_dir))
    assert [split.images for split in source.splits.values()] == [50_000, 5_000, 5_000, 10_000]
    images, labels = source.read("test")
    assert images.shape == (10_000, 28, 28, 1)
    # The official test set's counts of each digit.
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.real_data
def test_mnist_can_be_fitted_to_another_size(tfds_dir):
    source = sources.open_source(Config(dataset="mnist", data_dir=tfds_dir, image_size=32, channels=3))
    assert source.read("validation")[0].shape == (5_000, 32, 32, 3)


@pytest.mark.real_data
def test_a_prepared_copy_without_the_training_split_is_refused(tfds_dir):
    with pytest.raises(UserError, match=r"lacks the split 'train'; it has test"):
        sources.open_source(Config(dataset="fashion_mnist", data_dir=tfds_dir))


@pytest.mark.real_data
def test_omniglot_as_a_folder(shared):
    folder = shared / "data" / "images" / "omniglot"
    source = sources.open_source(Config(dataset=f"folder:{folder}"))
    assert sum(split.images for split in source.splits.values()) == 2720
    assert source.skipped == () and len(source.class_names) == 5


def test_classes_are_taken_or_left_out_and_keep_their_labels():
    everything = sources.open_source(Config(dataset="digits"))
    for said, kept in {"3": [3], "1, 7": [1, 7], "-3": [0, 1, 2, 4, 5, 6, 7, 8, 9]}.items():
        source = sources.open_source(Config(dataset="digits", classes=said))
        for split in sources.SPLITS:
            images, labels = everything.read(split)
            members = np.isin(labels, kept)
            np.testing.assert_array_equal(source.read(split)[0], images[members])
            np.testing.assert_array_equal(source.read(split)[1], labels[members])
            np.testing.assert_array_equal(source.left_out(split)[0], images[~members])
            assert source.splits[split].images == members.sum()
        assert source.class_names == everything.class_names and said in source.describe()["splits"]["test"]["origin"]
    assert everything.left_out is None


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="unknown --classes '12'"):
        sources.open_source(Config(dataset="digits", classes="12"))
    with pytest.raises(UserError, match="the split 'train' of digits has no such image"):
        sources.open_source(Config(dataset="digits", classes="-0,-1,-2,-3,-4,-5,-6,-7,-8,-9"))
