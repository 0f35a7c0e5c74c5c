"""What is computed of images: verdicts, latent vectors or denoised images, as rows of a table."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from etils import epy

from cae.beam.model import Manifest, Model
from cae.data.image_io import DecodedImage
from cae.errors import UserError
from cae.predict.preprocess import Preprocessed, preprocess
from cae.tiling import choose_tile_size

# Imports scikit-image, which takes a second.
with epy.lazy_imports():
    from cae.predict import denoising

MAX_BATCH_BYTES = 2**26
"""Of a batch of images in float32, unless a single image has more."""

MAX_BATCH_SIZE = 256
"""As of an exported detector, which computes a distance from each image to every training image."""

_PREPROCESSED = [
    ("width", pa.int32()), ("height", pa.int32()), ("preprocessing", pa.string()), ("warning", pa.string()),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Item:
    """An image that waits for its prediction: its name, its file's content, and as the model takes it."""

    name: str
    decoded: DecodedImage | None
    preprocessed: Preprocessed | None = None
    size: tuple[int, int] = (0, 0)


class Task(abc.ABC):
    """A function of images.

    Attributes:
      function: The name of the exported function that it needs.
      columns: Names and Arrow types of the columns of its table, after `name`.
    """

    function: str
    columns: Sequence[tuple[str, pa.DataType]]

    def __init__(self, manifest: Manifest, invert: str):
        self.manifest, self._invert = manifest, invert

    @property
    def schema(self) -> pa.Schema:
        """The schema of the table."""
        return pa.schema([("name", pa.string()), *self.columns])

    def make_table(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        """Returns rows as a table, in which missing columns are null: a batch takes far less memory than its rows."""
        return pa.Table.from_pylist(rows, self.schema)

    @property
    def batch_size(self) -> int:
        """Number of images that are predicted together."""
        return max(1, min(MAX_BATCH_SIZE, MAX_BATCH_BYTES // (4 * int(np.prod(self.manifest.image_shape)))))

    def prepare(self, name: str, decoded: DecodedImage) -> Item:
        """Returns what is kept of an image until its batch is predicted."""
        height, width = decoded.size
        background = 0.0 if self.manifest.background is None else self.manifest.background
        preprocessed = preprocess(decoded, self.manifest.image_shape, background, self._invert)
        return Item(name, None, preprocessed, (width, height))

    @abc.abstractmethod
    def predict(self, model: Model, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns a row for each image."""

    def _rows(self, items: Sequence[Item], **columns: Sequence[Any]) -> list[dict[str, Any]]:
        """Returns rows of columns and of what was done to the images."""
        return [
            {"name": item.name}
            | dict(zip(columns, values))
            | {"width": item.size[0], "height": item.size[1], "preprocessing": item.preprocessed.steps}
            | {"warning": "; ".join(item.preprocessed.warnings)}
            for item, *values in zip(items, *columns.values())
        ]


class Detect(Task):
    """Scores, p-values and verdicts; which images are discoveries is known once all have a p-value."""

    function = "detect"
    columns = [
        ("score", pa.float32()), ("p_value", pa.float64()), ("is_inlier", pa.bool_()), ("is_discovery", pa.bool_()),
        *_PREPROCESSED,
    ]  # fmt: skip

    def __init__(self, manifest: Manifest, invert: str, alpha: float):
        super().__init__(manifest, invert)
        self._alpha = np.float32(alpha)
        by_class, sides = manifest.detector.get("calibration_images_by_class"), 1 + manifest.detector["two_sided"]
        counts = {*by_class.values()} if by_class else {manifest.detector["calibration_images"]}
        self._denominators = np.array([(count + 1) / sides for count in sorted(counts)])

    def exact_p_values(self, p_values: np.ndarray) -> np.ndarray:
        """Returns float32 p-values [n] without their rounding errors, float64 [n].

        A conformal p-value is a whole number divided by one more than the number of calibration images, of a class if
        the detector is class-conditional.
        """
        fractions = np.round(p_values[:, None] * self._denominators) / self._denominators
        nearest = np.argmin(np.abs(fractions - p_values[:, None]), axis=1)
        return np.minimum(1.0, fractions[np.arange(len(p_values)), nearest])

    def predict(self, model: Model, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns a row for each image."""
        outputs = model("detect_uint8", images=_stack(items), alpha=self._alpha)
        return self._rows(
            items,
            score=outputs["score"].tolist(),
            p_value=self.exact_p_values(outputs["p_value"].astype(np.float64)).tolist(),
            is_inlier=outputs["is_inlier"].tolist(),
        )


class Encode(Task):
    """Latent vectors."""

    function = "encode"
    columns = [("latent", pa.list_(pa.float32())), *_PREPROCESSED]

    def predict(self, model: Model, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns a row for each image."""
        return self._rows(items, latent=model("encode_uint8", images=_stack(items))["codes"].tolist())


class Denoise(Task):
    """Denoised image files in the size, format and mode of each image, tile by tile."""

    function = "denoise"
    columns = [
        ("image", pa.binary()), ("width", pa.int32()), ("height", pa.int32()), ("format", pa.string()),
        ("mode", pa.string()), ("tiles", pa.int32()), ("noise_before", pa.float64()), ("noise_after", pa.float64()),
        ("rms_change", pa.float64()), ("warning", pa.string()),
    ]  # fmt: skip

    batch_size = 1

    def prepare(self, name: str, decoded: DecodedImage) -> Item:
        """Returns the image as it is."""
        return Item(name, decoded)

    def predict(self, model: Model, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns a row for each image."""
        predict_fn, shape = functools.partial(_denoise, model), self.manifest.image_shape
        rows = []
        for item in items:
            tile_size = choose_tile_size(item.decoded.size, shape, self.manifest.tile_multiple)
            denoised, row = denoising.denoise(predict_fn, tile_size, shape[2], item.decoded)
            rows.append({"name": item.name, "image": item.decoded.encode(denoised.channels)} | row)
        return rows


def _denoise(model: Model, images: np.ndarray) -> np.ndarray:
    return model("denoise", images=images)["denoised"]


def _stack(items: Sequence[Item]) -> np.ndarray:
    return np.stack([item.preprocessed.image for item in items])


def make_task(name: str, manifest: Manifest, invert: str, alpha: float | None) -> Task:
    """Returns the task of a name in `TASKS`.

    Raises:
      UserError: The export lacks its function, or what is needed to find out which images are negatives.
    """
    if name not in manifest.functions:
        has = ", ".join(manifest.functions)
        raise UserError(f"--task={name}: --saved_model={manifest.folder} has no such function, but {has}")
    if name == "denoise":
        return Denoise(manifest, invert)
    if invert == "auto" and manifest.background is None:
        raise UserError(f"--invert=auto: --saved_model={manifest.folder} is of an earlier version; export it again")
    if name == "encode":
        return Encode(manifest, invert)
    return Detect(manifest, invert, alpha)
