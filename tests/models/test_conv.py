import pytest

from cae import models
from cae.config import Config
from cae.models import conv


def test_decoder_mirrors_encoder():
    model = models.build(Config(), (28, 28, 1))
    encoder = [tuple(w.shape) for w in model.encoder.weights if len(w.shape) == 4]
    decoder = [tuple(w.shape) for w in model.decoder.weights if len(w.shape) == 4]
    # Every kernel has its counterpart, with input and output channels changed over; transposed ones are stored so.
    backwards = [kernel if kernel in encoder else (*kernel[:2], kernel[3], kernel[2]) for kernel in reversed(decoder)]
    assert sorted(backwards) == sorted(encoder)


def test_halvings_end_at_eight_pixels():
    assert [conv.halvings((side, side, 1)) for side in (11, 16, 28, 32, 33, 64, 105)] == [1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("latent_dim", [1, 7])
def test_latent_vectors_have_the_length_that_was_asked_for(latent_dim, random):
    model = models.build(Config(width=4, latent_dim=latent_dim), (28, 28, 1))
    assert model.encode(random.random((3, 28, 28, 1))).shape == (3, latent_dim)
