"""The default autoencoder, `cae.models.conv`, in PyTorch, for grayscale images."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cae.errors import UserError
from cae.models.conv import filters_at_level, num_downsamples

NEGATIVE_SLOPE = 0.2  # Of the leaky ReLU, as in Keras.


def leaky_relu(features: torch.Tensor) -> torch.Tensor:
    """Returns the leaky ReLU of features."""
    return F.leaky_relu(features, NEGATIVE_SLOPE)


class ResidualBlock(nn.Module):
    """Adds half of the output of two convolutions to features [batch, filters, height, width]."""

    def __init__(self, filters: int):
        super().__init__()
        self.first = nn.Conv2d(filters, filters, 3, padding=1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns features of the same shape."""
        return features + 0.5 * self.second(leaky_relu(self.first(features)))


class ConvAutoencoder(nn.Module):
    """Images [batch, 1, height, width] to images; layers are in the order of the Keras model's weights."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, base_filters: int):
        super().__init__()
        levels = num_downsamples(image_shape)
        if image_shape[2] != 1 or any(side % 2**levels for side in image_shape[:2]):
            raise UserError(f"PyTorch's model needs grayscale images whose sides are multiples of {2**levels}")
        filters = [filters_at_level(level, base_filters) for level in range(1, levels + 1)]
        self.coarse_shape = (*(side // 2**levels for side in image_shape[:2]), filters[-1])
        num_features = int(np.prod(self.coarse_shape))
        self.stem, self.encoder_block = nn.Conv2d(4, base_filters, 3, padding=1), ResidualBlock(base_filters)
        self.down = nn.ModuleList(nn.Conv2d(*pair, 3, stride=2) for pair in itertools.pairwise(filters))
        self.to_latent, self.from_latent = nn.Linear(num_features, latent_dim), nn.Linear(latent_dim, num_features)
        self.up = nn.ModuleList(nn.ConvTranspose2d(*pair, 3, stride=2) for pair in itertools.pairwise(filters[::-1]))
        self.decoder_block, self.last = ResidualBlock(base_filters), nn.Conv2d(base_filters, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the reconstructions [batch, 1, height, width], not clipped."""
        features = self.encoder_block(leaky_relu(self.stem(F.pixel_unshuffle(images, 2))))
        for convolution in self.down:
            features = leaky_relu(convolution(F.pad(features, (0, 1, 0, 1))))  # TensorFlow pads at the end only.
        latents = self.to_latent(features.permute(0, 2, 3, 1).flatten(1))
        features = leaky_relu(self.from_latent(latents)).reshape(-1, *self.coarse_shape).permute(0, 3, 1, 2)
        for convolution in self.up:
            features = leaky_relu(convolution(features)[:, :, :-1, :-1])
        return F.pixel_shuffle(self.last(self.decoder_block(features)), 2)
