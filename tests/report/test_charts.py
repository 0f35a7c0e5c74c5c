import base64
import io

import numpy as np
import pytest
from PIL import Image

from cae.report import charts, figures, interactive

NAMES = ("a$b$c", "cost $5", r"\$", "caf\udce9", "tab\t", "<b>", "_x")
"""Names of folders, and so of classes and of sets of outliers."""


def test_many_lines_are_distinguishable():
    lines = {f"method {number}": [(0, number), (1, number + 1)] for number in range(12)}
    axis = charts.line_chart(lines, "level", "PSNR (dB)").axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines}) == 12
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(lines)


def test_a_logarithmic_x_axis_is_labeled_by_powers_of_two():
    axis = charts.line_chart({"error": [(2, 0.1), (64, 0.01)]}, "size", "error", log=True, log_x=True).axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert {"2", "64"} <= {text.get_text() for text in axis.get_xticklabels()}


def test_a_scatter_plot_shows_each_point_in_the_color_of_its_class(random):
    points, labels = random.normal(size=(9, 2)), list("abcabcabc")
    figure = charts.scatter_plots({"one": points, "two": -points}, labels)
    for axis, sign in zip(figure.axes, (1, -1)):
        assert [each.get_label() for each in axis.collections] == ["a", "b", "c"]
        for number, each in enumerate(axis.collections):
            np.testing.assert_allclose(each.get_offsets(), sign * points[number::3])
    assert len({tuple(each.get_facecolor()[0]) for each in figure.axes[0].collections}) == 3
    assert len(charts.scatter_plots({"one": points}).axes[0].collections) == 1
    assert not charts.scatter_plots({"one": points}).legends


def test_a_variance_spectrum_is_sorted_and_includes_zero_variance():
    figure = charts.variance_spectrum(np.array([4.0, 1, 0]), np.array([0.5, 2, 0]))
    components, dimensions = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(components, [4, 1, 4e-8])
    np.testing.assert_allclose(dimensions, [4, 0.25, 4e-8])
    assert figures.png(charts.variance_spectrum(np.zeros(1), np.zeros(1)))


@pytest.mark.parametrize("num_sets", [0, 1, 4])
def test_each_set_of_outliers_has_a_histogram_beside_that_of_inliers(num_sets, random):
    outliers = {f"set {number}": 10 + random.random(20) for number in range(num_sets)}
    figure = charts.score_histograms(random.random(50), outliers, [-np.inf, 5.0], "score")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == list(outliers) and figures.png(figure)
    for axis in figure.axes[:num_sets]:
        assert axis.lines[0].get_xdata() == [5.0, 5.0] and len(axis.lines) == 1  # An infinite limit is not drawn.
        assert sum(patch.get_height() for patch in axis.patches) == pytest.approx(2)  # Both are fractions.


def test_names_that_look_like_formulas_or_private_artists_are_drawn(random):
    labels = [figures.label(name) for name in NAMES]
    lines = {name: random.random((3, 2)) + 0.1 for name in NAMES}
    drawn = {
        "lines": charts.line_chart(lines, "$", "_y", log=True, log_x=True),
        "bars": charts.bar_chart(dict.fromkeys(NAMES, 1.0), "$"),
        "curves": charts.rate_curves({("$x$", "$y$"): lines}),
        "histograms": charts.score_histograms(random.random(9), {name: random.random(9) for name in NAMES}, [], "$x$"),
        "scatter": charts.scatter_plots({"$x$": random.random((14, 2))}, NAMES * 2),
    }
    assert all(map(figures.png, drawn.values()))
    for name, legends in {"lines": drawn["lines"].axes[0], "curves": drawn["curves"].axes[0]}.items():
        assert [text.get_text() for text in legends.get_legend().get_texts()] == labels, name
    assert sorted(text.get_text() for text in drawn["scatter"].legends[0].get_texts()) == sorted(labels)
    assert [text.get_text() for text in drawn["bars"].axes[0].get_xticklabels()] == labels
    assert [axis.get_title() for axis in drawn["histograms"].axes[: len(NAMES)]] == labels
    # Those of a logarithmic axis stay formulas.
    assert any("$\\mathdefault" in text.get_text() for text in drawn["lines"].axes[0].get_yticklabels())


def test_rate_curves_have_one_panel_per_pair_of_axes():
    curve = np.array([[0, 0], [0.2, 0.9], [1, 1]])
    figure = charts.rate_curves({("FPR", "TPR"): {"a": curve, "b": curve}, ("recall", "precision"): {"a": curve}})
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes] == [("FPR", "TPR"), ("recall", "precision")]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xydata(), curve)


def test_a_line_chart_has_its_points_for_the_page():
    lines = {"<b>": [(1, 0.25), (2, np.nan)], "$x$ & y": [(1, 1 / 3)]}
    (plot,) = charts.line_chart(lines, "epoch", "a < b", log=True).plots
    assert [(each["name"], each["x"], each["y"]) for each in plot["data"]] == [
        ("&lt;b&gt;", [1, 2], [0.25, None]), ("$x$ &amp; y", [1], [0.33333]),
    ]  # fmt: skip
    assert [each["line"]["color"] for each in plot["data"]] == [*charts.LINE_COLORS[:2]]
    x_axis, y_axis = plot["layout"]["xaxis"], plot["layout"]["yaxis"]
    assert (x_axis["dtick"], y_axis["type"], y_axis["title"]["text"]) == (1, "log", "a &lt; b")
    many = {str(number): [(1, 1)] for number in range(9)}
    modes = [charts.line_chart(each, "x", "y").plots[0]["layout"]["hovermode"] for each in (lines, many)]
    assert modes == ["x unified", "closest"]


def test_each_point_of_a_map_knows_its_image(random):
    points, images = random.normal(size=(5, 2)).round(3), np.arange(5, dtype=np.uint8)[:, None, None, None] * 50
    figure = charts.scatter_plots({"one": points, "<2>": -points}, list("ab<ab"), range(10, 15), images.repeat(4, 1))
    assert figure.thumbnails["indices"] == [10, 11, 12, 13, 14]
    for plot, sign in zip(figure.plots, (1, -1)):
        assert [(each["meta"], each["customdata"]) for each in plot["data"]] == [
            ("<", [2]), ("a", [0, 3]), ("b", [1, 4]),
        ]  # fmt: skip
        for trace in plot["data"]:
            drawn = np.stack([trace["x"], trace["y"]], axis=1)
            np.testing.assert_allclose(drawn, sign * points[trace["customdata"]])
    assert figure.plots[1]["layout"]["title"]["text"] == "&lt;2&gt;"


@pytest.mark.parametrize("side, thumbnail", [(8, 8), (32, 32), (96, 32)])
def test_thumbnails_have_the_places_of_their_images(side, thumbnail):
    values = np.array([0, 60, 120, 180, 240], np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (5, side, side, 3))
    sprite = interactive.make_thumbnails(images)
    assert (sprite["width"], sprite["height"], sprite["columns"]) == (thumbnail, thumbnail, 3)
    with Image.open(io.BytesIO(base64.b64decode(sprite["url"].partition(",")[2]))) as file:
        assert file.size == (3 * thumbnail, 2 * thumbnail)
        pixels = np.asarray(file.convert("L"), int)
    for place, value in enumerate(values):
        row, column = divmod(place, 3)
        cell = pixels[row * thumbnail :, column * thumbnail :][:thumbnail, :thumbnail]
        assert abs(cell - value)[2:-2, 2:-2].max() <= 8


def test_thumbnails_that_would_be_too_large_are_left_out(monkeypatch, random):
    monkeypatch.setattr(interactive, "MAX_SPRITE_BYTES", 1000)
    assert interactive.make_thumbnails(random.random((100, 32, 32, 3))) == {}


def test_plotly_knows_the_charts(random):
    from plotly.graph_objects import Figure

    figure = charts.line_chart({"a": [(2, 1), (64, 2)]}, "x", "y", log=True, log_x=True)
    latent_map = charts.scatter_plots({"a": random.random((20, 2))}, [str(number) for number in range(20)])
    for plot in (*figure.plots, *latent_map.plots):
        known = Figure(plot)  # Raises for names and values that plotly.js has not.
        assert [trace.type for trace in known.data] == [trace["type"] for trace in plot["data"]]
