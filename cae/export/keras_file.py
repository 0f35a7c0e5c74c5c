"""Keras' own format: a file that `keras.saving.load_model` loads after `cae.models.register_classes()`."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from cae.export.functions import Exported, ExportFunction, make_functions

NAME, FILE = "keras", "model.keras"


def write(functions: Sequence[ExportFunction], model: keras.Model, folder: Path, images: np.ndarray) -> list[Exported]:
    """Writes the model, in float32, to model.keras; arguments and results are those of `saved_model.write`."""
    model.save(folder / FILE)
    loaded = keras.saving.load_model(folder / FILE)
    kept = [each for each in functions if each.name != "detect"]
    calls = make_functions([each.name for each in kept], loaded, free_sides=False)
    return [Exported(NAME, function, FILE, call) for function, call in zip(kept, calls)]
