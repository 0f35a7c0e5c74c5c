"""What is seen of a pipeline while it runs: lines of each process, and the metrics of the whole."""

import collections
import sys
import threading
import time
from typing import Any

from apache_beam.metrics.metric import Metrics, MetricsFilter

from cae.beam import NAMESPACE

SECONDS_PER_LINE = 10.0


class Progress:
    """Counts the images of a process, whose threads share it, and prints their number every ten seconds."""

    def __init__(self):
        self._lock = threading.Lock()
        self._count, self._start = 0, time.monotonic()
        self._next = self._start + SECONDS_PER_LINE

    def add(self, count: int) -> None:
        """Counts images that were predicted."""
        with self._lock:
            self._count += count
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + SECONDS_PER_LINE
            rate = self._count / (now - self._start)
            print(f"{self._count:,} images, {rate:,.0f} a second in this process", file=sys.stderr, flush=True)


class ImageMetrics:
    """Beam's metrics of a pipeline: images, bytes of their files, and milliseconds in the model by batch."""

    def __init__(self):
        self._images = Metrics.counter(NAMESPACE, "images")
        self._bytes = Metrics.counter(NAMESPACE, "bytes")
        self._milliseconds = Metrics.distribution(NAMESPACE, "model_milliseconds")

    def add_bytes(self, count: int) -> None:
        """Counts the bytes of a file that was decoded."""
        self._bytes.inc(count)

    def add_batch(self, count: int, seconds: float) -> None:
        """Counts a batch of images and how long the model took."""
        self._images.inc(count)
        self._milliseconds.update(round(1000 * seconds))


def summarize_metrics(result: Any) -> str | None:
    """Returns a line of the metrics of a pipeline's result; None where its runner has none."""
    try:
        result._metrics = None  # Portable runners would keep their first answer.
        query = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except Exception:  # noqa: BLE001 - Some runners have no metrics, or none until a pipeline has ended.
        return None
    counters = collections.Counter()  # Several steps may have a counter of the same name.
    for each in query["counters"]:
        counters[each.key.metric.name] += each.result or 0
    seconds = sum(each.result.sum for each in query["distributions"] if each.result) / 1000
    if not counters:
        return None
    images, failed, size = (counters[name] for name in ("images", "failed", "bytes"))
    return f"{images:,} images, {failed:,} failed, {size / 1e6:,.1f} MB read, {seconds:,.1f} s in the model"
