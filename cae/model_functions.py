"""What a trained model computes of a user's images and latent vectors."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cae import inference, models
from cae.data.arrays import to_float
from cae.errors import UserError
from cae.latents import interpolation
from cae.tiling import TileSize, choose_tile_size, tiled_predict


class ModelFunctions:
    """The functions of a model, each compiled once.

    Images are uint8, or floats in 0..1: [n, height, width, channels], gray ones also [n, height, width], or a single
    image, of which the result has no batch axis either; whatever else is given raises a `ValueError`. Results are
    float32. Any number of images is computed in bounded memory, and long work shows a progress bar.

    Attributes:
      model: The model.
      image_shape: The (height, width, channels) of the images that it was trained on.
      free_sides: Whether it denoises images of any height and width.
      trained_on_crops: Whether it was trained on crops of images, and denoises whole ones, large ones in tiles.
      any_range: Whether floats may leave 0..1 where the model takes them, as the images that it was trained on did.
    """

    model: keras.Model
    image_shape: tuple[int, int, int]
    free_sides: bool
    trained_on_crops: bool = False
    any_range: bool = False

    def denoise(self, images: Any, any_range: bool = False) -> np.ndarray:
        """Returns the model's outputs for images, in 0..1.

        Args:
          images: Of any height and width for U-Nets and DnCNN.
          any_range: Whether floats may leave 0..1 even if those that the model was trained on did not.
        """
        any_range = any_range or self.any_range
        batch, is_single = inference.as_batch(images, self.image_shape, self.free_sides, any_range)
        denoise = functools.partial(inference.predict_in_batches, self._denoise, description="denoising")
        tile_size = self.tile_size(batch.shape[1:3])
        if self.trained_on_crops and tile_size[:2] != batch.shape[1:3]:
            outputs = np.stack([tiled_predict(denoise, to_float(image), tile_size) for image in batch])
        else:
            outputs = denoise(batch)
        return outputs[0] if is_single else outputs

    def tile_size(self, size: tuple[int, int]) -> TileSize:
        """Returns the tiles in which an image of a (height, width) is denoised."""
        return choose_tile_size(size, self.image_shape, self.tile_multiple)

    @property
    def tile_multiple(self) -> int | None:
        """Of what tiles begin at multiples if the model was trained on crops; None if it was not."""
        return self.model.multiple if self.trained_on_crops else None

    def reconstruct(self, images: Any) -> np.ndarray:
        """Returns images decoded from the latent vectors of images; raises `UserError` without latent vectors."""
        return self.decode(self.encode(images))

    def encode(self, images: Any) -> np.ndarray:
        """Returns the latent vectors of images, [n, latent_dim]; raises `UserError` without latent vectors."""
        encode = self._encode
        batch, is_single = inference.as_batch(images, self.image_shape, any_range=self.any_range)
        codes = inference.predict_in_batches(encode, batch, "encoding")
        return codes[0] if is_single else codes

    def decode(self, codes: Any) -> np.ndarray:
        """Returns the images of latent vectors, in 0..1.

        Args:
          codes: Finite numbers, [n, latent_dim], or [latent_dim] for a single image.

        Raises:
          UserError: The model has no latent vectors.
        """
        decode, (batch, is_single) = self._decode, inference.as_codes(codes, self.model.latent_dim)
        outputs = inference.predict_in_batches(decode, batch, "decoding", math.prod(self.image_shape))
        return outputs[0] if is_single else outputs

    def interpolate(
        self, first: Any, second: Any, weights: Sequence[float] = (0, 0.25, 0.5, 0.75, 1), method: str = "slerp"
    ) -> np.ndarray:
        """Returns images between images: [n, weights, height, width, channels], without n for two single images.

        Args:
          first: One image, or several.
          second: As many.
          weights: Of the second image, [weights], each from 0 to 1.
          method: 'slerp' or 'lerp' of latent vectors, or 'pixels', which every model can do.

        Raises:
          UserError: The method is unknown, or the model has no latent vectors.
        """
        interpolation.check_method(method)
        weights, by_pixels = interpolation.check_weights(weights), method == interpolation.PIXELS
        free_sides, any_range = self.free_sides and by_pixels, self.any_range and not by_pixels
        (starts, is_single), (ends, other) = (
            inference.as_batch(images, self.image_shape, free_sides, any_range) for images in (first, second)
        )
        if starts.shape != ends.shape or is_single != other:
            shapes = f"{np.shape(first)} and {np.shape(second)}"
            raise ValueError(f"first and second must be one image each, or as many of the same size, not {shapes}")
        if by_pixels:
            paths = interpolation.interpolate_pixels(to_float(starts), to_float(ends), weights)
        else:
            codes = (self.encode(starts), self.encode(ends))
            paths = interpolation.interpolate_path(*codes, weights, interpolation.INTERPOLATORS[method])
            images = self.decode(paths.reshape(-1, paths.shape[-1]))
            paths = images.reshape(*paths.shape[:2], *self.image_shape)
        return paths[0] if is_single else paths

    @functools.cached_property
    def _denoise(self) -> Callable:
        sides = (None, None) if self.free_sides else self.image_shape[:2]
        return inference.compile_function(self.model, [*sides, self.image_shape[2]])

    @functools.cached_property
    def _encode(self) -> Callable:
        self._check_latents()
        return inference.compile_function(self.model.encode, self.image_shape)

    @functools.cached_property
    def _decode(self) -> Callable:
        self._check_latents()
        return inference.compile_function(self.model.decode, [self.model.latent_dim])

    def _check_latents(self) -> None:
        if not hasattr(self.model, "encode"):
            able = ", ".join(name for name, spec in models.MODELS.items() if spec.has_latents)
            raise UserError(
                f"a {type(self.model).__name__} has no latent vectors; these values of --model have: {able}"
            )
