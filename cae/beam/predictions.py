"""Images to tables: decoded, collected in batches, and fed to the model that their process has loaded."""

import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from cae.beam.encoded_image import EncodedImage, dead_letter, decode
from cae.beam.model import Model
from cae.beam.progress import ImageMetrics
from cae.beam.tasks import Item, Task


class Predict(beam.DoFn):
    """Yields an Arrow table for each batch of `EncodedImage`, and dead letters; decoded images never leave it.

    Args:
      task: What is computed.
    """

    def __init__(self, task: Task):
        self._task, self._shared = task, Shared()
        self._items: list[Item] = []

    def setup(self) -> None:
        """Loads the model, unless another thread of this process has."""
        self._model = self._shared.acquire(functools.partial(Model, self._task.manifest.folder))
        self._temporary = tempfile.TemporaryDirectory()
        self._metrics = ImageMetrics()

    def start_bundle(self) -> None:
        """Forgets what is left of a bundle that failed."""
        self._items = []

    def process(self, image: EncodedImage) -> Iterator[Any]:
        """Takes an image; yields a table once there are enough for a batch."""
        try:
            decoded, num_bytes = decode(image, Path(self._temporary.name))
            self._metrics.add_bytes(num_bytes)
            self._items.append(self._task.prepare(image.name, decoded))
        except Exception as error:  # noqa: BLE001 - One file must not end the work on the others.
            yield dead_letter(image.name, error)
        if len(self._items) >= self._task.batch_size:
            yield from self._predict_batch()

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the table of the last images."""
        window = GlobalWindow()
        for output in self._predict_batch():
            if isinstance(output, pvalue.TaggedOutput):
                yield pvalue.TaggedOutput(output.tag, WindowedValue(output.value, window.max_timestamp(), [window]))
            else:
                yield WindowedValue(output, window.max_timestamp(), [window])

    def teardown(self) -> None:
        """Removes the temporary folder."""
        self._temporary.cleanup()

    def _predict_batch(self) -> Iterator[Any]:
        items, self._items = self._items, []
        if items:
            yield from self._predict(items)

    def _predict(self, items: list[Item]) -> Iterator[Any]:
        """Yields a table; where a batch fails, those of its images one by one."""
        start = time.perf_counter()
        try:
            table = self._task.make_table(self._task.predict(self._model, items))
        except Exception as error:  # noqa: BLE001 - One image must not end the work on the others.
            if len(items) == 1:
                yield dead_letter(items[0].name, error)
                return
            for item in items:
                yield from self._predict([item])
            return
        self._metrics.add_batch(len(items), time.perf_counter() - start)
        self._model.progress.add(len(items))
        yield table
