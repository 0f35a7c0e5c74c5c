"""Files that the program reads and writes."""

import io
import json

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow as tf
import tifffile
from PIL import Image


def encode_png(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()


def write_tfrecord(path, contents, names):
    """Writes image files and their names as features of examples."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content, name in zip(contents, names):
            values = {"picture": content, "id": name.encode()}
            features = {
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[each])) for key, each in values.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def write_parquet(path, contents, names):
    """Writes image files and their names as Hugging Face does."""
    structs = [{"bytes": content, "path": None} for content in contents]
    pyarrow.parquet.write_table(pa.table({"picture": structs, "id": names}), path)


def damaged_files():
    """Yields (name, content, reason) of files that cannot be predicted, each for another reason."""
    random = np.random.default_rng(0)
    png = encode_png(random.integers(0, 256, (12, 12, 1), np.uint8))
    tiff, gif, deep = io.BytesIO(), io.BytesIO(), random.integers(0, 65_536, (12, 12), np.uint16)
    tifffile.imwrite(tiff, np.full((12, 12), np.nan, np.float32))
    Image.fromarray(deep.astype(np.uint8)).save(gif, "GIF")
    yield "empty.png", b"", "empty"
    yield "text.png", b"not a picture", "not an image"
    yield "cut.png", png[:60], "damaged: "
    yield "cut.gif", gif.getvalue()[:-40], "damaged: "
    yield "flipped.png", png[:50] + bytes([png[50] ^ 255]) + png[51:], "damaged: "
    yield "cut16.png", imagecodecs.png_encode(deep)[:-60], "damaged: "
    yield "nan.tif", tiff.getvalue(), "contains values that are not finite"
    yield "cut.tif", tiff.getvalue()[:-100], "damaged: "
    yield "bomb.pgm", b"P5 30000 30000 255\n", "declares"
    yield "deep.ppm", b"P6 1 1 65535\n123456", "color PPM of 16 bits is not supported"


def read_output(folder):
    """Returns rows and reasons of failures by name, and the summary; asserts that nothing else is there."""
    assert {path.name for path in folder.iterdir()} == {"predictions", "failed.jsonl", "summary.json"}
    rows = pyarrow.parquet.read_table(folder / "predictions").to_pylist()
    failed = [json.loads(line) for line in (folder / "failed.jsonl").read_text().splitlines()]
    by_name = {row["name"]: row for row in rows}
    assert len(by_name) == len(rows)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["images"], summary["failed"]) == (len(rows) + len(failed), len(failed))
    return by_name, {row["name"]: row["reason"] for row in failed}, summary
