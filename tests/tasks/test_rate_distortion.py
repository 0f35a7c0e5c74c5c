import dataclasses

import numpy as np
import pytest

from cae.tasks import rate_distortion, reconstruct

ROWS = [
    {"method": "latent vector", "setting": "8 bits a dimension", "bits_per_pixel": 0.75, "without_headers": 0.75}
    | {"psnr": 24.0},
    {"method": "JPEG", "setting": "quality 5", "bits_per_pixel": 5.0, "without_headers": 0.5, "psnr": 20.0},
    {"method": "JPEG", "setting": "quality 10", "bits_per_pixel": 6.0, "without_headers": 1.0, "psnr": 30.0},
    {"method": "WebP", "setting": "quality 5", "bits_per_pixel": 0.7, "without_headers": 0.6, "psnr": 25.0},
]


def test_rate_is_that_of_the_dimensions_and_distortion_that_of_the_decoded_vectors(context):
    rows = rate_distortion.evaluate(context)
    latents = {row["setting"]: row for row in rows if row["method"] == "latent vector"}
    # Two dimensions of an image of 12 times 12 pixels.
    rates = {"2 bits a dimension": 4 / 144, "8 bits a dimension": 16 / 144, "float32": 64 / 144}
    for setting, rate in rates.items():
        assert latents[setting]["bits_per_pixel"] == latents[setting]["without_headers"] == pytest.approx(rate)
    results = reconstruct.run(context).results
    assert results["psnr"] == pytest.approx(latents["float32"]["psnr"], rel=1e-5)
    assert results["rate_distortion"] == rows and results["latent_bits_per_pixel"] == pytest.approx(16 / 144)
    # The constant images 0, 30, ..., 210 decode to half their value. Validation images are the same: the cells of two
    # bits are 52.5 wide, and their centers 26.25, 78.75, 131.25, 183.75 (in 255ths).
    errors = np.arange(8) * 30 - np.repeat([26.25, 78.75, 131.25, 183.75], 2) / 2
    expected = np.mean(-10 * np.log10(np.square(errors / 255)))
    assert latents["2 bits a dimension"]["psnr"] == pytest.approx(expected, rel=1e-5)


def test_ranges_are_those_of_validation_images_and_the_number_of_images_is_bounded(context, monkeypatch):
    monkeypatch.setattr(rate_distortion, "MAX_IMAGES", 3)
    images, labels = context.load("test")
    black = dataclasses.replace(context, load=lambda split: (images * (split == "test"), labels))
    rows = rate_distortion.evaluate(black)
    # Of the ranges of black images only 0 is left. The first, the middle one and the last of the test images are 0,
    # 120 and 210.
    expected = np.mean([100, *(-20 * np.log10(np.array([120, 210]) / 255))])
    assert rows[0]["psnr"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("rate", "jpeg", "words"),
    [(0.75, 25.0, "at as many 25.00 dB"), (0.25, None, "takes 0.50 to 1.00"), (2.0, None, "takes 0.50 to 1.00")],
)
def test_jpeg_is_interpolated_within_its_rates_only(rate, jpeg, words):
    rows = [{**ROWS[0], "bits_per_pixel": rate, "without_headers": rate}, *ROWS[1:]]
    assert rate_distortion.summarize(rows) == {
        "latent_bits_per_pixel": rate, "psnr_8_bits": 24.0, "jpeg_psnr_at_same_rate": jpeg,
    }  # fmt: skip
    assert rate_distortion.describe(rows).endswith(f"JPEG without headers {words}")


def test_figure_has_a_line_with_and_without_headers_for_each_codec():
    _, figure = rate_distortion.draw(ROWS)
    lines = {text.get_text(): line for text, line in zip(figure.axes[0].get_legend().texts, figure.axes[0].lines)}
    assert [*lines] == ["latent vector", "JPEG", "JPEG without headers", "WebP", "WebP without headers"]
    assert lines["JPEG without headers"].get_xydata().tolist() == [[0.5, 20.0], [1.0, 30.0]]
