"""Uniform scalar quantization of latent vectors: the bits that storing them takes."""

import dataclasses

import numpy as np

CLIPPED_FRACTIONS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Fractions of the values at either end that a range may leave out: the fewer the bits, the more."""


@dataclasses.dataclass(frozen=True)
class UniformQuantizer:
    """Divides the range of each dimension into 2^bits cells of equal width, each of which stands for its center.

    Attributes:
      bits: Bits of each dimension.
      low: The lower ends of the ranges, float64 [latent_dim].
      high: The upper ends, as many.
    """

    bits: int
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, vectors: np.ndarray, bits: int) -> "UniformQuantizer":
        """Returns the quantizer with the smallest squared error of vectors, [n, latent_dim].

        The range of each dimension lies between two of its quantiles, by `CLIPPED_FRACTIONS`.
        """
        ends = [np.quantile(vectors, (clipped, 1 - clipped), axis=0) for clipped in CLIPPED_FRACTIONS]
        candidates = [cls(bits, low, high) for low, high in ends]
        errors = [np.square(each.round_trip(vectors) - vectors).mean(axis=0, dtype="float64") for each in candidates]
        best = np.argmin(errors, axis=0)
        low, high = np.take_along_axis(np.array(ends), best[None, None], axis=0)[0]
        return cls(bits, low, high)

    def quantize(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the index of each value's cell, int64 in 0..2^bits - 1; values beyond a range are in its last one."""
        widths = np.where(self.high > self.low, self.high - self.low, 1)  # Of a constant dimension any cell will do.
        positions = (vectors - self.low) / widths * 2**self.bits
        return np.floor(positions).clip(0, 2**self.bits - 1).astype(np.int64)

    def dequantize(self, indices: np.ndarray) -> np.ndarray:
        """Returns the centers of cells, float32 [n, latent_dim]."""
        return (self.low + (indices + 0.5) / 2**self.bits * (self.high - self.low)).astype(np.float32)

    def round_trip(self, vectors: np.ndarray) -> np.ndarray:
        """Returns what is left of vectors that were quantized, float32 [n, latent_dim]."""
        return self.dequantize(self.quantize(vectors))
