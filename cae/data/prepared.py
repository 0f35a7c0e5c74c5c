"""Image data sets of TensorFlow Datasets: found, downloaded where they can be, and read."""

import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds
from PIL import Image

from cae import program
from cae.data.pictures import fit
from cae.errors import UserError, unknown_name

SECONDS_TO_REACH = 6.0
"""How long a data set's hosts may take to answer. TFDS's own retries take minutes to find out that they don't."""


class Unavailable(UserError):
    """The data set exists, but is neither prepared nor can be downloaded."""


def builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Returns the prepared builder of a TFDS data set, after downloading it where need be.

    Raises `UserError` for an unknown name, and `Unavailable` where it is neither prepared nor can be downloaded.
    """
    try:
        found = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise unknown_name("--dataset", name, [*known, "digits", "lines", "folder:PATH", "records:PATH"]) from error
    except (ValueError, AssertionError, RuntimeError, OSError) as error:
        raise UserError(f"--dataset={name}: {error}") from error
    if not found.is_prepared():
        _download(found, name)
    return found


def _download(found: tfds.core.DatasetBuilder, name: str) -> None:
    where = f"not prepared in {found.data_dir_root}"
    if not _reachable(found.url_infos):
        raise Unavailable(f"--dataset={name} is {where}, and its host cannot be reached")
    print(f"{name} is {where}: downloading it", flush=True)
    try:
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        found.download_and_prepare(download_config=config)
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise Unavailable(f"--dataset={name} is {where}, and could not be downloaded: {error}") from error
    except (AssertionError, ValueError, ImportError) as error:  # Sets to be fetched by hand, or with more packages.
        raise UserError(f"--dataset={name} could not be prepared: {error}") from error


def _reachable(urls: Iterable[str]) -> bool:
    """Tells within `SECONDS_TO_REACH` whether a file of each host answers."""
    one_per_host = {urllib.parse.urlsplit(url).netloc: url for url in urls}
    answers = []

    def ask(url: str) -> None:
        try:
            with requests.get(url, stream=True, timeout=SECONDS_TO_REACH) as response:
                answers.append(response.ok)
        except requests.RequestException:
            answers.append(False)

    # Looking up a host's name knows no time limit, so that a thread is asked and not waited for.
    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in one_per_host.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_TO_REACH)
    return answers.count(True) == len(threads)


def image_feature(found: tfds.core.DatasetBuilder) -> tuple[str, tuple[int | None, ...]]:
    """Returns the key and the shape of a data set's images; raises `UserError` where it has none of 8 bits."""
    for key, feature in found.info.features.items():
        if isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8 and feature.shape[-1] in (1, 3):
            return key, feature.shape
    raise UserError(f"--dataset={found.name} holds no 8-bit images of 1 or 3 channels")


def label_feature(found: tfds.core.DatasetBuilder) -> tuple[str, list[str]] | None:
    """Returns the key and the class names of a data set's labels; nothing where it is unlabelled."""
    labels = {k: f for k, f in found.info.features.items() if isinstance(f, tfds.features.ClassLabel)}
    if not labels:
        return None
    key = "label" if "label" in labels else next(iter(labels))
    return key, list(labels[key].names)


def read(found: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split's images, uint8 [n, *shape], and labels, int64 [n], zeros where it is unlabelled."""
    images, labels = zip(*chunks(found, split, shape))
    return np.concatenate(images), np.concatenate(labels)


def chunks(
    found: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields what `read` returns piece by piece, holding one at a time."""
    program.start_tensorflow()  # Quietly, where nothing has started it.
    key, own_shape = image_feature(found)
    label = label_feature(found)
    # Left to itself, TFDS keeps in memory what it has read.
    options = tfds.ReadConfig(try_autocache=False)
    examples = found.as_dataset(split=split, shuffle_files=False, read_config=options)
    # Images of one size come in bulk, which is several times faster; others one by one, to be fitted.
    for batch in (examples.batch(1024) if own_shape == shape else examples.batch(1)).prefetch(2).as_numpy_iterator():
        fitted = batch[key] if own_shape == shape else fit(Image.fromarray(_plane(batch[key][0])), *shape)[None]
        yield fitted, (batch[label[0]] if label else np.zeros(len(fitted))).astype(np.int64)


def identity(found: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """Returns what tells one prepared data set from another: name, configuration, version, and what files hold."""
    splits = {name: [split.num_bytes, *split.shard_lengths] for name, split in found.info.splits.items()}
    return {"name": found.info.full_name, "splits": splits}


def place(data_dir: str | None) -> Path:
    """Returns where TFDS keeps prepared data sets."""
    return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def _plane(image: np.ndarray) -> np.ndarray:
    """Returns [height, width] for a grey image, as Pillow wants it."""
    return image[..., 0] if image.shape[-1] == 1 else image
