"""A run with what its page needs beside the model: examples of its data set, and its outlier detector."""

from collections.abc import Mapping
from typing import Any

from cae.data.resizing import inversion_background
from cae.demo.examples import Example, choose_inliers, make_outlier_examples
from cae.demo.views import Demo
from cae.errors import UserError
from cae.run import Run


def load_demo(run: Run, dataset_location: Mapping[str, Any]) -> Demo:
    """Loads the detector and the examples; what is missing is left out, and a note says how to get it.

    Args:
      run: The run.
      dataset_location: Where its data set is, as for `Run.open_dataset`.

    Raises:
      UserError: There is neither a detector nor the data set, so that the background of images is unknown.
    """
    detector, inliers, outliers = None, [], []
    notes = run.warnings()
    try:
        detector = run.detector
    except UserError as error:
        notes.append(f"no p-value, verdict and anomaly map: {error}")
    try:
        inliers, outliers, background = _load_examples(run, dataset_location, detector is None)
    except UserError as error:
        if detector is None:
            raise
        notes.append(f"no examples: {error}")
    if not hasattr(run.model, "encode"):
        notes.append("no latent vector, and interpolation by pixels only: this kind of --model has none")
    return Demo(run, detector, detector.background if detector else background, inliers, outliers, tuple(notes))


def _load_examples(
    run: Run, dataset_location: Mapping[str, Any], needs_background: bool
) -> tuple[list[Example], list[Example], float | None]:
    """Returns inliers, outliers, and the background of training images, if it is needed."""
    dataset = run.open_dataset(**dataset_location)
    inliers = choose_inliers(*dataset.load("test"), run.class_names)
    background = inversion_background(dataset.load("train")[0]) if needs_background else None
    return inliers, make_outlier_examples(inliers, dataset), background
