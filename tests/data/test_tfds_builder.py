"""Data sets of TensorFlow Datasets that are not downloaded: hosts, the fallback, and failed downloads."""

import dataclasses
import http.server
import socket
import threading
import time

import pytest
import requests
from tensorflow_datasets.core import DatasetInfo, GeneratorBasedBuilder, Version
from tensorflow_datasets.core.download.checksums import UrlInfo

from cae.config import Config
from cae.data import datasets, tfds_builder
from cae.errors import UserError


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(tfds_builder.requests, "get", refuse)
    return Config(dataset="mnist", data_dir=str(tmp_path))


def test_without_a_fallback_the_error_says_what_to_do(unreachable):
    with pytest.raises(
        UserError, match=r"^--dataset=mnist is not downloaded and its host is unreachable; set --data_dir .*=digits$"
    ):
        datasets.open_dataset(unreachable)


def test_the_fallback_is_used_with_a_warning(unreachable):
    dataset = datasets.open_dataset(dataclasses.replace(unreachable, fallback_dataset="digits"))
    assert dataset.name == "digits"
    assert dataset.warning == "--dataset=mnist is not downloaded and its host is unreachable; using 'digits' instead"
    assert dataset.warnings() == [f"warning: {dataset.warning}"]


@pytest.fixture
def host():
    """Starts a local host that responds with a status and records the requested paths."""
    servers = []

    def start(status):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requested.append(self.path)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.requested = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_data_set_is_reachable_if_each_host_responds(host):
    (first, first_url), (second, second_url) = host(200), host(200)
    assert tfds_builder._are_reachable([f"{first_url}/a", f"{first_url}/b", f"{second_url}/c"])
    assert first.requested == ["/b"] and second.requested == ["/c"]
    _, closed_url = host(403)
    assert not tfds_builder._are_reachable([f"{first_url}/a", f"{closed_url}/a"])


def test_a_host_that_never_responds_is_unreachable(monkeypatch):
    monkeypatch.setattr(tfds_builder, "HOST_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not tfds_builder._are_reachable([f"http://127.0.0.1:{silent.getsockname()[1]}/a"])
        assert time.monotonic() - start < 10


class MadeUpDownload(GeneratorBasedBuilder):
    """A data set in an archive that is downloaded."""

    VERSION = Version("1.0.0")
    URL = ""

    def _info(self):
        return DatasetInfo(builder=self)

    def _split_generators(self, manager):
        manager.download_and_extract(self.URL)

    def _generate_examples(self):
        raise NotImplementedError


@pytest.mark.parametrize("checksum, reason", [("00", "has wrong checksum"), (None, "Error while extracting .*")])
def test_a_page_in_the_place_of_a_file_is_a_data_set_that_is_not_available(
    host, tmp_path, monkeypatch, checksum, reason
):
    url = f"{host(200)[1]}/images.zip"
    monkeypatch.setattr(MadeUpDownload, "URL", url)
    monkeypatch.setattr(MadeUpDownload, "url_infos", checksum and {url: UrlInfo(9, checksum, "images.zip")})
    config = Config(dataset="made_up_download", data_dir=str(tmp_path))
    with pytest.raises(
        UserError, match=rf"^--dataset=made_up_download is not downloaded: .*{reason}; set --data_dir .*$"
    ):
        datasets.open_dataset(config)
    assert datasets.open_dataset(dataclasses.replace(config, fallback_dataset="digits")).name == "digits"
