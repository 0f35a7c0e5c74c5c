import pytest

from cae import models
from cae.config import Config
from cae.models import conv


def test_decoder_mirrors_encoder():
    model = models.build_model(Config(), (28, 28, 1))
    encoder = [tuple(w.shape) for w in model.encoder.weights if len(w.shape) == 4]
    decoder = [tuple(w.shape) for w in model.decoder.weights if len(w.shape) == 4]
    # Every kernel has a counterpart with swapped channels; those of transposed convolutions are stored so.
    mirrored = [kernel if kernel in encoder else (*kernel[:2], kernel[3], kernel[2]) for kernel in reversed(decoder)]
    assert sorted(mirrored) == sorted(encoder)


def test_bottleneck_has_at_most_eight_pixels_per_side():
    assert [conv.num_downsamples((size, size, 1)) for size in (11, 16, 28, 32, 33, 64, 105)] == [1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("latent_dim", [1, 7])
def test_latent_vectors_have_the_configured_dimensions(latent_dim, random):
    model = models.build_model(Config(base_filters=4, latent_dim=latent_dim), (28, 28, 1))
    assert model.encode(random.random((3, 28, 28, 1))).shape == (3, latent_dim)
