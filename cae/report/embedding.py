"""Images within a page, as URLs: small enough that a page with all figures of a report can be sent by mail."""

import base64
import io
from collections.abc import Mapping

from PIL import Image, ImageSequence

MAX_LOSSLESS_BYTES = 2_700_000
"""Bytes of all images of a page up to which they are lossless: a page has 6 MB at most, 2 MB of them plotly.js."""

MAX_WEBP_SIDE = 16383

LOSSLESS, LOSSY = {"lossless": True, "quality": 50, "method": 2}, {"quality": 85, "method": 4}
"""Options of Pillow. Lossless images have half the size of PNG files, animations a tenth of that of GIF files."""


def embed_images(files: Mapping[str, bytes]) -> dict[str, str]:
    """Returns URLs that contain images, by file name: lossless WebP, or WebP where that would be too large.

    Args:
      files: The content of PNG and GIF files by name.
    """
    images = {name: to_webp(content, LOSSLESS) for name, content in files.items()}
    if sum(map(len, images.values())) > MAX_LOSSLESS_BYTES:
        lossy = {name: to_webp(content, LOSSY) for name, content in files.items()}
        images = {name: min(image, lossy[name], key=len) for name, image in images.items()}  # Charts gain nothing.
    return {name: data_url(content) for name, content in images.items()}


def to_webp(content: bytes, options: Mapping[str, bool | int]) -> bytes:
    """Returns a PNG or GIF file as WebP; as it is where WebP has no images of that size."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        if max(image.size) > MAX_WEBP_SIDE:
            return content
        first, *others = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
        animation = {"save_all": True, "append_images": others, "duration": image.info.get("duration", 0), "loop": 0}
        first.save(file, "WEBP", **options, **animation if others else {})
    return file.getvalue()


def data_url(content: bytes) -> str:
    """Returns the content of an image file as a URL."""
    media_type = Image.MIME[Image.open(io.BytesIO(content)).format]
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
