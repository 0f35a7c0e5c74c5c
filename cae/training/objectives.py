"""What a model is fitted to do: reproduce images, and whatever else its settings ask for.

To add one, write a module with a training step as `step.py` has one, and say here when it is taken.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.metrics import find_loss
from cae.training import adversarial, step, variational
from cae.training.state import State

Batch = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training step, and what of it is measured.

    take: (state, a replica's share of a batch, seed [2], size of the whole batch) to the replica's parts of the mean
    losses, by name, 'loss' being what is minimised; parts: their names; errors: (model, batch, output) to what images
    that are not trained on have of them without anything drawn, [batch] by name; seed: of all that the steps draw.
    """

    take: Callable[[State, Batch, tf.Tensor, int], dict[str, tf.Tensor]]
    parts: tuple[str, ...]
    errors: Callable[[keras.Model, Batch, tf.Tensor], dict[str, tf.Tensor]]
    seed: int


def find(settings: Config) -> Objective:
    """Returns the objective that the settings name."""
    loss_of = find_loss(settings.loss)
    if models.find(settings.model).has_prior:
        chosen, options = variational, {"beta": settings.beta}
        errors = functools.partial(variational.errors, loss_of=loss_of, beta=settings.beta)
    elif settings.regularizer == "acai":
        chosen, options = adversarial, {"weight": settings.regularizer_weight}
        errors = functools.partial(step.errors, loss_of=loss_of)
    else:
        chosen, options = step, {}
        errors = functools.partial(step.errors, loss_of=loss_of)
    take = functools.partial(chosen.train_step, loss_of=loss_of, **options)
    return Objective(take, chosen.PARTS, errors, settings.seed)
