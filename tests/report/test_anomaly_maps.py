import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from cae.report import anomaly_maps
from cae.report.anomaly_maps import OPACITY, OUTLINE_COLOR


def test_an_overlay_is_transparent_for_small_values_and_outlined_above_one():
    image = np.full((7, 9, 3), [0.1, 0.2, 0.6])
    anomaly_map = np.full((7, 9), 0.5, np.float32)
    anomaly_map[1:4, 1:4] = 3.0  # Eight pixels around one.
    anomaly_map[6, 8] = 1.0
    anomaly_map[6, 6] = 0.75
    picture = anomaly_maps.overlay(image, anomaly_map)
    assert (picture == OUTLINE_COLOR).all(axis=-1).sum() == 8
    np.testing.assert_array_equal(picture[1:4, 1], np.tile(OUTLINE_COLOR, (3, 1)))
    np.testing.assert_allclose(picture[5], 0.3, rtol=1e-6)
    for place, value, opacity in (((2, 2), 2.0, OPACITY), ((6, 8), 1.0, OPACITY), ((6, 6), 0.75, OPACITY / 2)):
        heat = np.array(matplotlib.colormaps["magma"](value / 2)[:3])
        np.testing.assert_allclose(picture[place], 0.3 * (1 - opacity) + opacity * heat, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarged_images_and_overlays_have_the_same_places(channels, random):
    image, anomaly_map = random.integers(0, 256, (28, 14, channels)) / 255, np.zeros((28, 14), np.float32)
    anomaly_map[7, 10] = 2
    cell, overlay = anomaly_maps.draw_cells(image, anomaly_map)
    assert cell.shape == overlay.shape == (112, 56, 3)
    for offset in (0, 3):
        np.testing.assert_allclose(cell[offset::4, offset::4], np.broadcast_to(image, (28, 14, 3)), rtol=1e-6)
    rows, columns = np.nonzero((overlay == OUTLINE_COLOR).all(axis=-1))
    assert {*rows // 4} == {7} and {*columns // 4} == {10}


def test_large_images_are_shrunk_and_small_anomalies_still_outlined():
    image, anomaly_map = np.full((560, 280, 1), 0.2), np.zeros((560, 280), np.float32)
    anomaly_map[100:120, 200:220] = 9
    cell, overlay = anomaly_maps.draw_cells(image, anomaly_map)
    assert cell.shape == (112, 56, 3) and np.allclose(cell, 51 / 255)
    rows, columns = np.nonzero((overlay == OUTLINE_COLOR).all(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((20, 23, 40, 43), abs=1)


def test_the_legend_shows_the_values_of_the_colors():
    figure = Figure()
    figure.subplots(1, 2)
    anomaly_maps.add_legend(figure)
    (bar,) = figure.axes[2:]
    assert bar.get_xlim() == (0, 2) and "exceeds 1" in bar.get_xlabel()
    assert [*bar.lines[-1].get_xdata()] == [1, 1]
