"""An exported model: what its export.json says, and its SavedModel, which each process loads once."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from apache_beam.io.filesystems import FileSystems

from cae import runtime
from cae.beam.paths import copy_to_local, is_local, list_files
from cae.beam.progress import Progress
from cae.errors import UserError

SAVED_MODEL = "saved_model"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What export.json says.

    Attributes:
      folder: The folder of the export.
      image_shape: The (height, width, channels) of images.
      tile_multiple: Of what tiles of large images begin at multiples if the model was trained on crops, else None.
      functions: Names of the functions that the SavedModel has.
      background: That of training images, in 0..1, as `inversion_background`; None in exports of earlier versions.
      detector: What decides on images, as of `cae.export.manifest.describe_detector`; empty if nothing does.
    """

    folder: str
    image_shape: tuple[int, int, int]
    tile_multiple: int | None
    functions: tuple[str, ...]
    background: float | None
    detector: dict[str, Any]


def read_manifest(folder: str) -> Manifest:
    """Reads export.json; raises `UserError` if the folder has none, or no SavedModel."""
    try:
        with FileSystems.open(FileSystems.join(folder, "export.json")) as file:
            content = json.load(file)
        functions = tuple(content["functions"])
        formats = {file["format"] for file in content["files"]}
        shape, multiple = tuple(content["image_shape"]), content.get("tile_multiple")
        manifest = Manifest(folder, shape, multiple, functions, content.get("background"), content.get("detector", {}))
    except Exception as error:  # File systems raise errors of many kinds.
        reason = " ".join(str(error).split())
        raise UserError(
            f"--saved_model={folder} is not the --output of python -m cae.export: export.json cannot be read: {reason}"
        ) from error
    if SAVED_MODEL not in formats:
        raise UserError(f"--saved_model={folder} contains no SavedModel; export with --format=saved_model")
    return manifest


class Model:
    """The functions of a SavedModel, and the progress of the process that has it.

    Args:
      folder: The folder of the export, on any file system of Beam.
    """

    def __init__(self, folder: str):
        runtime.import_tensorflow()
        import tensorflow as tf

        self.progress = Progress()
        with tempfile.TemporaryDirectory() as temporary:
            path = FileSystems.join(folder, SAVED_MODEL)
            if not is_local(folder):
                path = _download(path, Path(temporary))
            self._loaded = tf.saved_model.load(path)

    def __call__(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs of a function for its inputs, by name."""
        import tensorflow as tf

        function = self._loaded.signatures[name]
        outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}


def _download(folder: str, target: Path) -> str:
    """Copies a folder to this machine and returns its path there."""
    for source in list_files(f"{folder}/**"):
        path = target / source.removeprefix(f"{folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        copy_to_local(source, path)
    return str(target)
