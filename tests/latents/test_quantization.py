import numpy as np
import pytest

from cae.latents.quantization import UniformQuantizer


def test_ranges_are_divided_into_cells_that_stand_for_their_centers():
    quantizer = UniformQuantizer(2, low=np.array([0.0, -1.0]), high=np.array([4.0, 1.0]))
    indices = quantizer.quantize(np.array([[0.5, -1.0], [3.9, 1.0], [-7.0, 9.0], [2.0, 0.0]], np.float32))
    assert indices.tolist() == [[0, 0], [3, 3], [0, 3], [2, 2]]
    assert quantizer.dequantize(indices).tolist() == [[0.5, -0.75], [3.5, 0.75], [0.5, 0.75], [2.5, 0.25]]


def test_each_bit_halves_the_error(random):
    vectors = random.uniform([-1, 10], [1, 50], [2000, 2]).astype(np.float32)
    for bits in (2, 4, 8):
        errors = np.square(UniformQuantizer.fit(vectors, bits).round_trip(vectors) - vectors).mean(axis=0)
        widths = np.array([2, 40]) / 2**bits
        assert errors == pytest.approx(widths**2 / 12, rel=0.1), bits  # The variance of a uniform distribution.


def test_few_bits_leave_out_outliers_and_many_do_not():
    vectors = np.append(np.linspace(0, 1, 999), 1000)[:, None].astype(np.float32)
    clipped, whole = (UniformQuantizer.fit(vectors, bits) for bits in (2, 16))
    assert clipped.high < 1 and np.abs(clipped.round_trip(vectors) - vectors)[:-1].max() < 0.15
    assert whole.high == 1000 and np.abs(whole.round_trip(vectors) - vectors).max() <= 500 / 2**16 + 1e-4


def test_constant_dimension_is_kept():
    vectors = np.full([5, 3], 0.7, np.float32)
    assert (UniformQuantizer.fit(vectors, 2).round_trip(vectors) == vectors).all()
