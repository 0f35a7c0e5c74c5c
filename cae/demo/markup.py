"""Images, latent vectors, anomaly maps and messages as HTML; pixels are enlarged without blur."""

import base64
import html
import io
from collections.abc import Iterable

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from cae.data.arrays import to_pil
from cae.demo.inspection import Detection, alpha_range
from cae.report.anomaly_maps import MAX_VALUE, MIN_VALUE, OUTLINE_COLOR, draw_cells
from cae.report.figures import ERROR_COLORMAP, LATENT_COLORMAP, latent_block

CSS = """
.cae-images {display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 12px}
.cae-ends {display: grid; grid-template-columns: repeat(3, minmax(0, 200px)); gap: 12px}
.cae-strip {display: grid; grid-template-columns: repeat(auto-fit, minmax(44px, 1fr)); gap: 4px; margin-top: 12px}
.cae-figure {margin: 0; min-width: 0}
.cae-figure img {image-rendering: pixelated; width: 100%; border: 1px solid var(--border-color-primary)}
.cae-figure img.cae-square {aspect-ratio: 1}
.cae-figure figcaption {font-size: 13px; line-height: 1.3; color: var(--body-text-color)}
.cae-strip figcaption {font-size: 11px; text-align: center}
.cae-chosen img {outline: 3px solid var(--color-accent); outline-offset: -3px}
.cae-text {color: var(--body-text-color); margin: 8px 0; overflow-wrap: anywhere}
.cae-verdict {font-size: 17px; padding: 8px 12px; border-left: 6px solid var(--cae-color)}
.cae-message {padding: 8px 12px; border-left: 6px solid #d97706}
.cae-bar {position: relative; height: 12px; max-width: 260px; border: 1px solid var(--border-color-primary)}
.cae-bar i {position: absolute; left: 50%; top: 0; width: 2px; height: 100%}
.cae-ticks {display: flex; justify-content: space-between; max-width: 260px; font-size: 12px}
.cae-gallery {display: grid; grid-template-columns: repeat(auto-fill, minmax(60px, 1fr)); gap: 6px;
  align-items: start}
.cae-gallery button {cursor: pointer; min-width: 0}
.cae-gallery button:hover img, .cae-gallery button:focus-visible img {outline: 3px solid var(--color-accent)}
.cae-gallery figcaption {font-size: 11px; overflow-wrap: anywhere}
.cae-canvas {display: block; cursor: crosshair; touch-action: none; max-width: 100%; border: 1px solid #808080}
.cae-tools {display: flex; gap: 8px; margin-top: 6px}
.cae-tools button {padding: 3px 14px; cursor: pointer; border: 1px solid var(--border-color-primary);
  border-radius: 6px; color: var(--body-text-color); background: var(--button-secondary-background-fill)}
"""


def images(figures: Iterable[str], css_class: str = "cae-images") -> str:
    """Returns figures in a grid that wraps."""
    return f'<div class="{css_class}">{"".join(figures)}</div>'


def figure(caption: str, image: np.ndarray, css_class: str = "", image_class: str = "") -> str:
    """Returns an image, floats [height, width, 1, 3 or 4] in 0..1, over its caption."""
    file = io.BytesIO()
    to_pil((255 * image.clip(0, 1)).round().astype(np.uint8)).save(file, "PNG", compress_level=1)
    data, text = base64.b64encode(file.getvalue()).decode(), html.escape(caption)
    picture = f'<img class="{image_class}" src="data:image/png;base64,{data}" alt="{text}">'
    return f'<figure class="cae-figure {css_class}">{picture}<figcaption>{text}</figcaption></figure>'


def latent_figure(latent: np.ndarray, limit: float) -> str:
    """Returns a latent vector as a block, blue for -limit and red for limit."""
    block = np.ma.masked_invalid(latent_block(latent))
    colors = matplotlib.colormaps[LATENT_COLORMAP](block / (2 * limit) + 0.5)
    caption = f"latent vector, -{limit:.2g} (blue) to {limit:.2g} (red)"
    return figure(caption, colors, image_class="cae-square")


def anomaly_figure(image: np.ndarray, detection: Detection) -> str:
    """Returns the anomaly map of an image [height, width, 1 or 3] in 0..1 as heat over it."""
    _, heat = draw_cells(image, detection.anomaly_map)
    return figure("anomaly map of the input", heat)


def anomaly_legend() -> str:
    """Returns the colors of anomaly maps and their values."""
    colors = ", ".join(to_hex(matplotlib.colormaps[ERROR_COLORMAP](value)) for value in np.linspace(0, 1, 9))
    bar = f'<div class="cae-bar" style="background: linear-gradient(to right, {colors})">'
    ticks = "".join(f"<span>{value:g}</span>" for value in (0, MIN_VALUE, 1, 3 * MIN_VALUE, MAX_VALUE))
    return (
        f'<div class="cae-text">{bar}<i style="background: {to_hex(OUTLINE_COLOR)}"></i></div>'
        f'<div class="cae-ticks">{ticks}</div>'
        f"anomaly map: transparent below {MIN_VALUE:g}, outlined where it exceeds 1</div>"
    )


def verdict(detection: Detection) -> str:
    """Returns in words whether an image is an outlier, and why."""
    detector, threshold = detection.detector, detection.detector.threshold
    word, color = ("Inlier", "#16a34a") if detection.is_inlier else ("Outlier", "#dc2626")
    rate = "" if alpha_range(detector) is None else f" at alpha {detector.alpha:.4g}"
    limits = f"threshold {threshold.high:.4g}"
    if np.isfinite(threshold.low):
        limits = f"thresholds {threshold.low:.4g} and {threshold.high:.4g}"
    text = f"p-value {detection.p_value:.4g}; {detector.score_name} score {detection.score:.4g}, {limits}"
    style = f'class="cae-text cae-verdict" style="--cae-color: {color}"'
    return f"<div {style}><strong>{word}{rate}</strong><br>{html.escape(text)}</div>"


def message(text: str) -> str:
    """Returns a line that says what was wrong, or is missing."""
    return f'<div class="cae-text cae-message">{html.escape(text)}</div>'
