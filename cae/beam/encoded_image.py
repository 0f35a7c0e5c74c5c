"""An image file that waits to be decoded, by what `cae.predict` decodes files with, and why one cannot be."""

import dataclasses
from pathlib import Path

from apache_beam import pvalue
from apache_beam.metrics import Metrics

from cae.beam import NAMESPACE
from cae.beam.paths import copy_to_local, is_local
from cae.data.image_io import DecodedImage, read_image
from cae.predict.predictor import to_file_error


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image file that was not read yet, or its content.

    Attributes:
      name: Its name in the output, one line of text.
      path: Its path or URL; None where the content is given.
      content: The bytes of a file; None where the path is given.
    """

    name: str
    path: str | None = None
    content: bytes | None = None


def decode(image: EncodedImage, folder: Path) -> tuple[DecodedImage, int]:
    """Decodes an image.

    Args:
      image: The image.
      folder: A folder on this machine for what is not a file on it; it has one file at a time.

    Returns:
      The decoded image and the number of bytes of its file.

    Raises:
      UnreadableImageError: The file is not an image, damaged, too large or of an unsupported kind.
    """
    if image.content is None and is_local(image.path):
        path = Path(image.path)
    else:
        path = folder / "image"
        if image.content is not None:
            path.write_bytes(image.content)
        else:
            copy_to_local(image.path, path)
    decoded = read_image(path)
    return decoded, path.stat().st_size


def dead_letter(name: str, error: Exception) -> pvalue.TaggedOutput:
    """Returns what is written to failed.jsonl; raises an error that other images would raise as well."""
    reason = str(to_file_error(error))
    Metrics.counter(NAMESPACE, "failed").inc()
    return pvalue.TaggedOutput("failed", {"name": name, "reason": reason})
