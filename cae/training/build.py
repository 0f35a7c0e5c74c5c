"""A run's state as its settings have it before the first step."""

import tensorflow as tf

from cae import models
from cae.config import Config
from cae.training import objectives
from cae.training.optimizer import make_optimizer
from cae.training.state import Player, State


def build_state(
    strategy: tf.distribute.Strategy, settings: Config, image_shape: tuple[int, int, int], steps: int
) -> State:
    """Returns a state with all its variables made, which a checkpoint needs to be restored into.

    steps: how many the run will take, over which the learning rate goes its way.
    """
    with strategy.scope():
        rate_factor = tf.Variable(1.0, trainable=False)
        model, optimizer = models.build(settings, image_shape), make_optimizer(settings, steps, rate_factor)
        optimizer.build(model.trainable_variables)
        critic = None
        if settings.regularizer is not None:
            critic = Player(models.build_critic(settings, image_shape), make_optimizer(settings, steps, rate_factor))
            critic.optimizer.build(critic.model.trainable_variables)
        return State.new(model, optimizer, critic, len(objectives.find(settings).parts), rate_factor)
