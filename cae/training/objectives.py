"""What a model is fitted to do: reproduce images, and whatever else its settings ask for.

To add one, write a module with a `differentiate` as `step.py` has one, and say here when it is taken.
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
from cae.training.step import Batch, Gradients, Losses, Part


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimised, and what of it is measured.

    differentiate: (state, part of a batch, seed [2], which part it is) to the part's share of the mean losses, by name,
    'loss' being what is minimised, and of the gradients by which each player learns; parts: the names of the losses;
    errors: (model, batch, output) to what images that are not trained on have of them without anything drawn, [batch]
    by name; seed: of all that is drawn; compiled: whether XLA makes the code of `differentiate`.
    """

    differentiate: Callable[[State, Batch, tf.Tensor, Part], tuple[Losses, list[Gradients]]]
    parts: tuple[str, ...]
    errors: Callable[[keras.Model, Batch, tf.Tensor], dict[str, tf.Tensor]]
    seed: int
    compiled: bool = False


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
    differentiate = functools.partial(chosen.differentiate, loss_of=loss_of, **options)
    return Objective(differentiate, chosen.PARTS, errors, settings.seed, settings.jit_compile)
