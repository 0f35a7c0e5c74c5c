"""Images of every file system, decoded by what `cae.predict` decodes files with."""

from pathlib import Path

from cae.beam.paths import copy_to_local, is_local
from cae.beam.sources import EncodedImage
from cae.data.image_io import DecodedImage, read_image


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
