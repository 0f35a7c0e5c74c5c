"""What changes during training, all of which a checkpoint keeps."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.data.pipeline import TrainData
from cae.training.objectives import get_objective
from cae.training.optimizers import make_optimizer


def num_train_steps(config: Config, train_data: TrainData) -> int:
    """Returns the number of steps of a run: those of --epochs, or --max_steps if that is less."""
    num_steps = train_data.num_steps(config.epochs)
    return min(num_steps, config.max_steps or num_steps)


def num_train_epochs(config: Config, train_data: TrainData) -> int:
    """Returns the number of epochs of a run, the last of which --max_steps may end early."""
    return (num_train_steps(config, train_data) - 1) * train_data.batch_size // train_data.num_images + 1


def _counter() -> tf.Variable:
    return tf.Variable(0, dtype=tf.int64, trainable=False)


class EpochMetrics:
    """Running sums over the steps of an epoch.

    Attributes:
      loss_sums: Sums of the mean losses of `num_steps` steps, float64 [losses].
      num_steps: Number of steps of the epoch that were applied.
      nonfinite_steps: Number of steps of the whole run that were skipped, since a loss or a gradient was not finite.
      consecutive_skipped: How many of the last steps were skipped.
    """

    def __init__(self, loss_names: tuple[str, ...] = ("loss",)):
        self._loss_names = loss_names
        self.loss_sums = tf.Variable(tf.zeros([len(loss_names)], tf.float64), trainable=False)
        self.num_steps, self.nonfinite_steps, self.consecutive_skipped = _counter(), _counter(), _counter()

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the variables by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, tf.Variable)}

    def means(self) -> dict[str, float]:
        """Returns the mean losses of the epoch so far by name, NaN where no step was applied."""
        num_steps = int(self.num_steps.numpy()) or math.nan
        return {name: float(each) / num_steps for name, each in zip(self._loss_names, self.loss_sums.numpy())}

    def reset_state(self) -> None:
        """Resets the sums at the start of an epoch."""
        self.loss_sums.assign(tf.zeros_like(self.loss_sums))
        self.num_steps.assign(0)


@dataclasses.dataclass
class CriticState:
    """A critic and its optimizer."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer


@dataclasses.dataclass
class TrainState:
    """The state of a run.

    Attributes:
      model: The model, built.
      optimizer: Its optimizer, built.
      critic: The second network, where the objective trains one.
      epoch_metrics: Losses of the current epoch, and steps that were skipped.
      step: Number of steps taken.
      epoch: Number of epochs completed, evaluation included.
      best_loss: The lowest validation loss of an epoch.
      rollbacks: How often the run was rolled back.
      lr_scale: What the optimizers multiply their learning rates by.
      total_steps: Number of steps that the schedules span.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    critic: CriticState | None = None
    epoch_metrics: EpochMetrics = dataclasses.field(default_factory=EpochMetrics)
    step: tf.Variable = dataclasses.field(default_factory=_counter)
    epoch: tf.Variable = dataclasses.field(default_factory=_counter)
    best_loss: tf.Variable = dataclasses.field(default_factory=lambda: tf.Variable(float("inf"), trainable=False))
    rollbacks: tf.Variable = dataclasses.field(default_factory=_counter)
    lr_scale: tf.Variable = dataclasses.field(default_factory=lambda: tf.Variable(1.0, trainable=False))
    total_steps: int = 1

    @classmethod
    def create(
        cls,
        strategy: tf.distribute.Strategy,
        config: Config,
        image_shape: tuple[int, int, int],
        total_steps: int,
        build_model: Callable[[Config, tuple[int, int, int]], keras.Model] = models.build_model,
        restart_step: int | None = None,
    ) -> "TrainState":
        """Returns the state at step 0 with all its variables, which a checkpoint is restored into.

        Args:
          strategy: What the variables are created under.
          config: The run's configuration.
          image_shape: (height, width, channels).
          total_steps: Number of steps that the schedules of the learning rate and of weights of losses span.
          build_model: What builds the model.
          restart_step: The step at which the schedule starts again, if it does.
        """
        with strategy.scope():
            lr_scale = tf.Variable(1.0, trainable=False)

            def build_optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
                optimizer = make_optimizer(config, total_steps, lr_scale, restart_step)
                optimizer.build(model.trainable_variables)
                return optimizer

            model, critic = build_model(config, image_shape), None
            optimizer = build_optimizer(model)
            if config.regularizer is not None:
                critic_model = models.build_critic(config, image_shape)
                critic = CriticState(critic_model, build_optimizer(critic_model))
            epoch_metrics = EpochMetrics(get_objective(config).loss_names)
            return cls(model, optimizer, critic, epoch_metrics, lr_scale=lr_scale, total_steps=total_steps)

    @property
    def global_step(self) -> int:
        """Number of steps taken."""
        return int(self.step.numpy())

    @property
    def completed_epochs(self) -> int:
        """Number of epochs completed."""
        return int(self.epoch.numpy())

    def end_epoch(self, epoch: int) -> None:
        """Marks an epoch as completed."""
        self.epoch.assign(epoch)

    def apply_rollback(self, rollbacks: int, nonfinite_steps: int) -> None:
        """Counts rollbacks, halves the learning rate for each, and keeps the number of steps that were skipped."""
        self.rollbacks.assign(rollbacks)
        self.lr_scale.assign(0.5**rollbacks)
        self.epoch_metrics.nonfinite_steps.assign(nonfinite_steps)
        self.epoch_metrics.consecutive_skipped.assign(0)

    def checkpoint_items(self) -> dict[str, Any]:
        """Returns everything by name, for `tf.train.Checkpoint`.

        A model is a list of its variables: TensorFlow does not find layers that a Keras model keeps in lists.
        """
        items = {"weights": list(self.model.variables), "optimizer": self.optimizer}
        if self.critic:
            items |= {"critic_weights": list(self.critic.model.variables), "critic_optimizer": self.critic.optimizer}
        counters = {name: getattr(self, name) for name in ("step", "epoch", "best_loss", "rollbacks", "lr_scale")}
        return items | counters | self.epoch_metrics.variables()
