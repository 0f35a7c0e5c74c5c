"""The default autoencoder, `cae.models.conv`, once more in PyTorch, to be compared with; for images of one channel."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cae.errors import UserError
from cae.models.conv import channels_at, halvings

SLOPE = 0.2
"""Of a leaky rectifier below 0, as in Keras."""


def activated(features: torch.Tensor) -> torch.Tensor:
    """Returns what a leaky rectifier makes of features."""
    return F.leaky_relu(features, SLOPE)


class ResidualBlock(nn.Module):
    """Adds half of a correction by two convolutions."""

    def __init__(self, filters: int):
        super().__init__()
        self.first = nn.Conv2d(filters, filters, 3, padding=1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns features [batch, filters, h, w], corrected."""
        return features + 0.5 * self.second(activated(self.first(features)))


class ConvAutoencoder(nn.Module):
    """Images [batch, 1, height, width] to latent vectors and back; layers in the order of the original's weights."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: int):
        super().__init__()
        scales = halvings(image_shape)
        if image_shape[2] != 1 or any(side % 2**scales for side in image_shape[:2]):
            raise UserError("PyTorch's model is for grey images whose sides are multiples of 4, as MNIST's")
        self.coarse = (*(side // 2**scales for side in image_shape[:2]), channels_at(scales, width))
        numbers = int(np.prod(self.coarse))
        channels = [channels_at(scale, width) for scale in range(1, scales + 1)]
        self.stem, self.encoder_block = nn.Conv2d(4, width, 3, padding=1), ResidualBlock(width)
        self.down = nn.ModuleList(nn.Conv2d(*pair, 3, stride=2) for pair in itertools.pairwise(channels))
        self.to_latent, self.from_latent = nn.Linear(numbers, latent_dim), nn.Linear(latent_dim, numbers)
        backwards = channels[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(*pair, 3, stride=2) for pair in itertools.pairwise(backwards))
        self.decoder_block, self.last = ResidualBlock(width), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns what the images come back as, in no certain range."""
        features = self.encoder_block(activated(self.stem(F.pixel_unshuffle(images, 2))))
        for convolution in self.down:
            features = activated(convolution(F.pad(features, (0, 1, 0, 1))))  # TensorFlow pads at the end alone.
        latents = self.to_latent(features.permute(0, 2, 3, 1).flatten(1))
        features = activated(self.from_latent(latents)).reshape(-1, *self.coarse).permute(0, 3, 1, 2)
        for convolution in self.up:
            features = activated(convolution(features)[:, :, :-1, :-1])
        return F.pixel_shuffle(self.last(self.decoder_block(features)), 2)


def copy_weights(weights: Sequence[np.ndarray], model: ConvAutoencoder) -> None:
    """Gives a model the weights of its original, in the original's order and axes."""
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(in_torch_axes(weight)))


def in_torch_axes(weight: np.ndarray) -> np.ndarray:
    """Returns a kernel [h, w, a, b] as [b, a, h, w], one of a dense layer transposed, a bias as it is."""
    return np.ascontiguousarray(weight.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]))
