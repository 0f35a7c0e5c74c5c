"""Files that contain many image files: TFRecord of `tf.train.Example`, and Parquet.

A reader yields the name of a record, or None, and the content of an image file, or why the record has none. It raises
an exception where the rest of the file cannot be read.
"""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from apache_beam.io.filesystems import FileSystems

from cae.data.image_io import UnreadableImageError

ROWS_PER_BATCH = 64
"""Rows of a Parquet file that are in memory together."""

_CRC_MASK = 0xA282EAD8

Record = tuple[str | None, bytes | UnreadableImageError]


def read_tfrecord(path: str, image_column: str, name_column: str | None) -> Iterator[Record]:
    """Yields the records of a TFRecord file, which may be compressed as its suffix says."""
    from tensorflow.train import Example

    with FileSystems.open(path) as file:
        for content in _read_frames(file):
            if content is None:
                yield None, UnreadableImageError("damaged: its checksum is wrong")
                continue
            try:
                features = Example.FromString(content).features.feature
            except Exception as error:  # noqa: BLE001 - Protocol buffers raise an error of their own.
                yield None, UnreadableImageError(f"not a tf.train.Example: {error}")
                continue
            # A map of protocol buffers does not take None for a key.
            name, image = (
                _first_value(features[column]) if column is not None and column in features else None
                for column in (name_column, image_column)
            )
            yield _to_text(name), _check_content(image, image_column, [*features])


def _read_frames(file: BinaryIO) -> Iterator[bytes | None]:
    """Yields the content of each record, None for one that is damaged; raises `UnreadableImageError` at a cut."""
    while header := file.read(12):
        length, checksum = struct.unpack("<QI", header) if len(header) == 12 else (0, None)
        if checksum != _masked_crc(header[:8]):
            raise UnreadableImageError("damaged: not a TFRecord from here on")
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise UnreadableImageError("damaged: the file ends within a record")
        content = body[:length]
        yield content if struct.unpack("<I", body[length:])[0] == _masked_crc(content) else None


def _masked_crc(content: bytes) -> int:
    import google_crc32c

    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + _CRC_MASK) & 0xFFFFFFFF


def _first_value(feature: Any) -> Any:
    """Returns the first value of a feature of any kind; None if it has none."""
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    return values[0] if len(values) else None


def read_parquet(path: str, image_column: str, name_column: str | None) -> Iterator[Record]:
    """Yields the rows of a Parquet file; an image may be bytes, or a struct of bytes and path as of Hugging Face."""
    from pyarrow import parquet

    with FileSystems.open(path) as source, parquet.ParquetFile(source) as file:
        columns = [name for name in (image_column, name_column) if name is not None]
        for name in columns:
            if name not in file.schema_arrow.names:
                raise UnreadableImageError(f"has no column '{name}', but {', '.join(file.schema_arrow.names)}")
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=columns):
            for row in batch.to_pylist():
                image = row[image_column]
                image = image.get("bytes") if isinstance(image, dict) else image
                yield _to_text(row.get(name_column)), _check_content(image, image_column, columns)


def _check_content(image: Any, column: str, available: list[str]) -> bytes | UnreadableImageError:
    if isinstance(image, bytes):
        return image
    kind = "no value" if image is None else f"a value of type {type(image).__name__}"
    return UnreadableImageError(f"{kind} in '{column}', which should be an image file; has {', '.join(available)}")


def _to_text(name: Any) -> str | None:
    if name is None:
        return None
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


READERS = {"tfrecord": read_tfrecord, "parquet": read_parquet}
"""Readers by the value of `--input_format`."""
