"""Builders of TensorFlow Datasets: found by name, and prepared after a download where that is necessary."""

import contextlib
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.extractor import ExtractError
from tensorflow_datasets.core.download.util import DownloadError

from cae.data.tfds_files import RECORD_FORMATS
from cae.errors import UserError, unknown_choice_error

HOST_TIMEOUT_SECONDS = 6.0
"""Time that a data set's hosts have to respond; TFDS itself retries for minutes."""

# What is downloaded where a proxy responds with a page of its own has another checksum, or is no archive.
_DOWNLOAD_ERRORS = (requests.RequestException, DownloadError, NonMatchingChecksumError, ExtractError)

OTHER_NAMES = ("digits", "lines", "folder:PATH", "records:PATH", "pairs:NOISY,CLEAN", "takes:FIRST,SECOND")


class DatasetUnavailableError(UserError):
    """The data set exists, but is not downloaded and cannot be."""


def get_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set that is prepared, after downloading it if necessary.

    Args:
      name: The data set's name, as 'mnist' or 'mnist:3.0.1'.
      data_dir: The folder of prepared data sets; None for TFDS's own.

    Raises:
      UserError: The name is unknown, or preparation failed.
      DatasetUnavailableError: The data set is not downloaded and cannot be.
    """
    builder = _find_builder(name, data_dir)
    if builder.is_prepared():
        return builder
    if not _are_reachable(builder.url_infos or ()):
        raise DatasetUnavailableError(f"--dataset={name} is not downloaded and its host is unreachable")
    with _lock_preparation(builder):
        builder = _find_builder(name, data_dir)
        if not builder.is_prepared():  # Another process may have prepared it.
            _prepare(builder, name)
    return builder


def uses_tensorflow(name: str, data_dir: str | None) -> bool:
    """Returns whether TensorFlow computes while a data set is opened: it encodes images that are prepared first.

    Raises:
      UserError: The name is unknown.
    """
    builder = _find_builder(name, data_dir)
    return not builder.is_prepared() or builder.info.file_format not in RECORD_FORMATS


def _find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        raise unknown_choice_error("--dataset", name, [*names, *OTHER_NAMES]) from error
    except (ValueError, AssertionError, RuntimeError, OSError) as error:
        raise UserError(f"--dataset={name}: {error}") from error


@contextlib.contextmanager
def _lock_preparation(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """A context in which no other process prepares the data set, of which TFDS would fail at the end."""
    root = str(builder.data_dir_root)
    if "://" in root:  # An object store has no locks.
        yield
        return
    Path(root).mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(Path(root) / f".{builder.name}.lock"):
        yield


def _prepare(builder: tfds.core.DatasetBuilder, name: str) -> None:
    print(f"downloading {name} to {builder.data_dir_root}", flush=True)
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except _DOWNLOAD_ERRORS as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DatasetUnavailableError(f"--dataset={name} is not downloaded: {reason}") from error
    except (AssertionError, ValueError, ImportError) as error:  # Manual downloads, or additional packages.
        raise UserError(f"--dataset={name} cannot be prepared: {error}") from error


def _are_reachable(urls: Iterable[str]) -> bool:
    """Returns whether a file of each host responds within `HOST_TIMEOUT_SECONDS`."""
    url_by_host = {urllib.parse.urlsplit(url).netloc: url for url in urls}
    responses = []

    def request(url: str) -> None:
        with (
            contextlib.suppress(requests.RequestException),
            requests.get(url, stream=True, timeout=HOST_TIMEOUT_SECONDS) as response,
        ):
            responses.append(response.ok)

    # The look-up of a host's name has no timeout, so that threads are not waited for any longer.
    threads = [threading.Thread(target=request, args=(url,), daemon=True) for url in url_by_host.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HOST_TIMEOUT_SECONDS)
    return responses.count(True) == len(threads)
