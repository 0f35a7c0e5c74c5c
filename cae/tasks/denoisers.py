"""What denoises the batches of an evaluation: a model, whole images by tiles, or a self-ensemble of either."""

import functools
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cae.data.full_resolution import center_crop
from cae.data.symmetries import self_ensemble
from cae.inference import compile_function
from cae.run import Run
from cae.tasks import get_corruption
from cae.tasks.context import EvalContext, get_examples
from cae.tiling import tiled_predict

MAX_EXAMPLE_SIDE = 192
"""Figures show the center of larger images, of this height and width."""

Denoise = Callable[[tf.Tensor], np.ndarray]
"""Images [batch, height, width, channels] to images of the same shape."""


def make_denoiser(run: Run, context: EvalContext) -> Denoise:
    """Returns what denoises batches by a run's model."""
    if context.whole_images:
        # Noise that is not clipped is for all models, whatever noise they were trained on.
        predict = functools.partial(run.denoise, any_range=True)
        predict = self_ensemble(predict) if context.self_ensemble else predict

        def denoise_whole(images: tf.Tensor) -> np.ndarray:
            return np.stack([tiled_predict(predict, each, run.tile_size(each.shape[:2])) for each in images.numpy()])

        return denoise_whole
    # Traced once, so that all times are of the model alone.
    model = compile_function(run.model, context.run.image_shape)
    if context.self_ensemble:
        ensemble = self_ensemble(lambda images: model(tf.constant(images)).numpy())
        return lambda images: ensemble(images.numpy())
    return lambda images: model(images).numpy()


def timed(denoise: Denoise, images: tf.Tensor) -> tuple[np.ndarray, float]:
    """Returns what a denoiser returns, and the seconds that it took."""
    start = time.perf_counter()
    output = denoise(images)
    return output, time.perf_counter() - start


def get_noisy_examples(context: EvalContext, noise: str, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns test images with a noise and the model's outputs, as `get_examples` does; the centers of whole images."""
    corruption = get_corruption(noise)
    if not (context.whole_images or context.self_ensemble):
        return get_examples(context, corruption, indices)
    denoise, examples = make_denoiser(context.run, context), []
    for batch in context.batches("test", corruption, indices).unbatch().batch(1):
        images = {"image": batch["image"], "input": batch["input"], "output": denoise(batch["input"])}
        examples.append({name: center_crop(np.asarray(each[0]), MAX_EXAMPLE_SIDE) for name, each in images.items()})
    side = min(min(each["image"].shape[:2]) for each in examples)
    return {name: np.stack([center_crop(each[name], side) for each in examples]) for name in examples[0]}
