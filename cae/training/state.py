"""What changes while a model is fitted."""

import dataclasses

import keras
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.training.optimizer import make_optimizer


@dataclasses.dataclass
class Player:
    """A model and the optimizer that only it learns by."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer


@dataclasses.dataclass
class State:
    """Weights, the optimizer's slots, steps taken, best validation loss; and a critic, where the model has one."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    step: tf.Variable
    best_loss: tf.Variable
    critic: Player | None = None

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return int(self.step.numpy())

    @classmethod
    def new(cls, model: keras.Model, optimizer: keras.optimizers.Optimizer, critic: Player | None = None) -> "State":
        """Returns the state at step 0; models and optimizers must be built."""
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
        return cls(model, optimizer, step, tf.Variable(float("inf"), trainable=False), critic)


def build_state(
    strategy: tf.distribute.Strategy, settings: Config, image_shape: tuple[int, int, int], steps: int
) -> State:
    """Returns a state with all its variables made, which a checkpoint needs to be restored into."""
    with strategy.scope():
        model, optimizer = models.build(settings, image_shape), make_optimizer(settings, steps)
        optimizer.build(model.trainable_variables)
        return State.new(model, optimizer, _critic(settings, image_shape, steps))


def _critic(settings: Config, image_shape: tuple[int, int, int], steps: int) -> Player | None:
    if settings.regularizer is None:
        return None
    critic, optimizer = models.build_critic(settings, image_shape), make_optimizer(settings, steps)
    optimizer.build(critic.trainable_variables)
    return Player(critic, optimizer)
