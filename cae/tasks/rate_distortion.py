"""Rate and distortion: bits per pixel of quantized latent vectors beside those of JPEG and WebP files."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cae import inference
from cae.data.arrays import to_float
from cae.latents.quantization import UniformQuantizer
from cae.metrics import psnr, ssim
from cae.report.charts import line_chart
from cae.report.report import Row
from cae.tasks.context import EvalContext, evenly_spaced
from cae.tasks.image_codecs import QUALITIES, available_codecs, encode_and_decode

MAX_IMAGES, MAX_VALUES = 500, 2**24
"""Images of each split, at most, and values of all their pixels."""

BITS, HEADLINE_BITS, FLOAT_BITS = (2, 4, 6, 8), 8, 32
"""Bits of a dimension."""

LATENTS = "latent vector"

CAPTION = (
    f"Rate and distortion of evenly spaced test images, at most {MAX_IMAGES:,}. Bits per pixel of latent vectors:"
    " dimensions times bits, divided by height times width; the model and the ranges of the dimensions, which are those"
    " of validation images, are shared by all images and do not count. Of JPEG and WebP, by Pillow's default settings:"
    " all bytes of the files; without headers: without tables and markers, which are much the same in all files and"
    " most of the file of a small image. Images that have been JPEG files before favor JPEG"
)


def evaluate(context: EvalContext) -> list[Row]:
    """Returns a row for each number of bits of a latent dimension, and for each codec and quality.

    Returns:
      method and setting; bits_per_pixel and without_headers, the same without the headers of files; psnr in dB and
      ssim, means over at most `MAX_IMAGES` test images.
    """
    images, references = (_choose_images(context, split) for split in ("test", "validation"))
    vectors, references = context.run.encode(images), context.run.encode(references)
    measure = inference.compile_function(_measure_pairs, (2, *context.run.image_shape))
    rows = []
    for row, outputs in itertools.chain(_quantized(context, vectors, references), _encoded(images)):
        pairs = np.stack([to_float(images), to_float(outputs)], axis=1)
        means = inference.predict_in_batches(measure, pairs, "measuring").mean(axis=0, dtype="float64").tolist()
        rows.append({**row, **dict(zip(("psnr", "ssim"), means))})
    return rows


def _choose_images(context: EvalContext, split: str) -> np.ndarray:
    images, _ = context.load(split)
    max_images = min(MAX_IMAGES, max(1, MAX_VALUES // math.prod(images.shape[1:])))
    return images[evenly_spaced(len(images), max_images)]


def _measure_pairs(pairs: tf.Tensor) -> tf.Tensor:
    images, outputs = tf.unstack(pairs, axis=1)
    return tf.stack([psnr(images, outputs), ssim(images, outputs)], axis=1)


def _quantized(context: EvalContext, vectors: np.ndarray, references: np.ndarray) -> Iterator[tuple[Row, np.ndarray]]:
    """Yields the start of a row and the decoded images for each number of bits, the ranges being of other vectors."""
    height, width, _ = context.run.image_shape
    for bits in (*BITS, FLOAT_BITS):
        is_float = bits == FLOAT_BITS
        kept = vectors if is_float else UniformQuantizer.fit(references, bits).round_trip(vectors)
        rate = vectors.shape[1] * bits / (height * width)
        setting = "float32" if is_float else f"{bits} bits a dimension"
        yield _make_row(LATENTS, setting, rate, rate), context.run.decode(kept)


def _encoded(images: np.ndarray) -> Iterator[tuple[Row, np.ndarray]]:
    """Yields the start of a row and the decoded images for each codec and quality."""
    bits_of_byte = 8 / math.prod(images.shape[1:3])
    for codec in available_codecs():
        for quality in QUALITIES:
            encoded = encode_and_decode(images, codec, quality)
            rate, headers = (bits_of_byte * sizes.mean() for sizes in (encoded.num_bytes, encoded.num_header_bytes))
            yield _make_row(codec, f"quality {quality}", float(rate), float(rate - headers)), encoded.decoded


def _make_row(method: str, setting: str, bits_per_pixel: float, without_headers: float) -> Row:
    return {
        "method": method, "setting": setting, "bits_per_pixel": bits_per_pixel, "without_headers": without_headers,
    }  # fmt: skip


def summarize(rows: Sequence[Row]) -> dict[str, float | None]:
    """Returns the main numbers of the rows of `evaluate`.

    Returns:
      latent_bits_per_pixel, psnr_8_bits: of latent vectors with 8 bits a dimension. jpeg_psnr_at_same_rate: of JPEG
      without headers at as many bits per pixel, between two qualities; None where no quality has so few or so many.
    """
    latent = next(row for row in rows if row["setting"].startswith(f"{HEADLINE_BITS} bits"))
    rates, values = _jpeg_curve(rows)
    rate = latent["bits_per_pixel"]
    jpeg = float(np.interp(rate, rates, values)) if rates[0] <= rate <= rates[-1] else None
    return {"latent_bits_per_pixel": rate, "psnr_8_bits": latent["psnr"], "jpeg_psnr_at_same_rate": jpeg}


def _jpeg_curve(rows: Sequence[Row]) -> tuple[Sequence[float], Sequence[float]]:
    points = sorted((row["without_headers"], row["psnr"]) for row in rows if row["method"] == "JPEG")
    return tuple(zip(*points))


def describe(rows: Sequence[Row]) -> str:
    """Returns the main numbers of the rows of `evaluate` in words."""
    summary, (rates, _) = summarize(rows), _jpeg_curve(rows)
    jpeg = summary["jpeg_psnr_at_same_rate"]
    at_same_rate = f"takes {rates[0]:.2f} to {rates[-1]:.2f}" if jpeg is None else f"at as many {jpeg:.2f} dB"
    return (
        f"{summary['latent_bits_per_pixel']:.2f} bits per pixel by {HEADLINE_BITS} bits a latent dimension, PSNR"
        f" {summary['psnr_8_bits']:.2f} dB; JPEG without headers {at_same_rate}"
    )


def draw(rows: Sequence[Row]) -> tuple[str, Figure]:
    """Returns a caption and a figure of PSNR over bits per pixel, a line for each method."""
    lines = {}
    for row in rows:
        lines.setdefault(row["method"], []).append((row["bits_per_pixel"], row["psnr"]))
        if row["method"] != LATENTS:
            lines.setdefault(f"{row['method']} without headers", []).append((row["without_headers"], row["psnr"]))
    caption = "PSNR by bits per pixel: of latent vectors, quantized to 2, 4, 6 and 8 bits a dimension and as float32"
    return caption, line_chart(lines, "bits per pixel", "PSNR in dB", log_x=True)
