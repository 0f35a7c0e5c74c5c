"""The base class of anomaly scores."""

from __future__ import annotations

import functools

import numpy as np
from etils import epy

from cae.outliers.forward import ForwardBatches, ModelOutputs

with epy.lazy_imports():
    import faiss

    from cae.outliers import neighbor_index


class Score:
    """An anomaly score of single images.

    Attributes:
      two_sided: Whether small values are anomalous as well: blank images are reconstructed better than any other.
      needs: What the model must have, of `scores.ALL_CAPABILITIES`; None if any model will do.
      min_images: Number of training images that it needs.
      version: Is increased where `state` or what it means changes, so that detectors of earlier versions are refused.
      state: All that `fit` learned, arrays by name, so that a detector is saved without a pickle.
    """

    two_sided = False
    needs: str | None = None
    min_images = 1
    version = 1

    def __init__(self, **state: np.ndarray):
        self.state: dict[str, np.ndarray] = state

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        """Learns from training images, uint8 [n, height, width, channels]; many scores need no fitting."""

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        """Returns the scores of a batch, [batch]."""
        raise NotImplementedError

    @functools.cached_property
    def index(self) -> faiss.Index:
        """The index of training vectors, for scores that have one in `state`."""
        return neighbor_index.load(self.state["index"])


def compute_scores(score: Score, images: np.ndarray, forward_batches: ForwardBatches) -> np.ndarray:
    """Returns the scores of images, float64 [n]."""
    values = [score(outputs) for outputs in forward_batches(images)]
    return np.concatenate([np.zeros(0), *values])
