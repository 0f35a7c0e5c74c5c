"""What changes while a model is fitted."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf


@dataclasses.dataclass
class Player:
    """A model and the optimizer that only it learns by."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer


@dataclasses.dataclass
class Tally:
    """What the steps of an epoch came to so far.

    sums: of the losses, float64 [parts], over `counted` steps; skipped: steps of the whole run that changed nothing,
    since something in them was not finite, and in_a_row how many of those were the last ones.
    """

    sums: tf.Variable
    counted: tf.Variable
    skipped: tf.Variable
    in_a_row: tf.Variable

    @classmethod
    def new(cls, parts: int) -> "Tally":
        """Returns the tally before the first step, of losses that have so many parts."""
        return cls(tf.Variable(tf.zeros([parts], tf.float64), trainable=False), _count(), _count(), _count())

    def means(self) -> list[float]:
        """Returns the mean losses of the epoch so far, NaN where no step counted."""
        counted = int(self.counted.numpy())
        return [float(each) / counted if counted else float("nan") for each in self.sums.numpy()]

    def start_again(self) -> None:
        """Forgets the losses, as an epoch begins."""
        self.sums.assign(tf.zeros_like(self.sums))
        self.counted.assign(0)


@dataclasses.dataclass
class State:
    """Everything that a run that goes on needs to be the run.

    Weights and the optimizer's slots; steps taken and epochs that were measured; the best validation loss; how often
    the run went back to a checkpoint, and the factor that its learning rate has since; a critic, where the model has
    one.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    step: tf.Variable
    epoch: tf.Variable
    best_loss: tf.Variable
    times_back: tf.Variable
    rate_factor: tf.Variable
    tally: Tally
    critic: Player | None = None

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return int(self.step.numpy())

    @property
    def epochs(self) -> int:
        """How many epochs were trained for and measured."""
        return int(self.epoch.numpy())

    def end_epoch(self, epoch: int) -> None:
        """Notes that an epoch was measured, and begins the next one."""
        self.epoch.assign(epoch)
        self.tally.start_again()

    def slow_down(self, times: int) -> None:
        """Notes that the run went back so many times, and learns half as fast for each of them."""
        self.times_back.assign(times)
        self.rate_factor.assign(0.5**times)
        self.tally.in_a_row.assign(0)

    @classmethod
    def new(
        cls,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        critic: Player | None = None,
        parts: int = 1,
        rate_factor: tf.Variable | None = None,
    ) -> "State":
        """Returns the state at step 0; models and optimizers must be built.

        parts: how many parts the objective's loss has; rate_factor: what the optimizers' learning rates are multiplied
        by, where they are.
        """
        return cls(
            model=model,
            optimizer=optimizer,
            step=_count(),
            epoch=_count(),
            best_loss=tf.Variable(float("inf"), trainable=False),
            times_back=_count(),
            rate_factor=tf.Variable(1.0, trainable=False) if rate_factor is None else rate_factor,
            tally=Tally.new(parts),
            critic=critic,
        )

    def held(self) -> dict[str, Any]:
        """Returns all of it by name, as a checkpoint holds it.

        A model's variables are a list: TensorFlow does not see layers that a Keras model keeps in lists.
        """
        held = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del held["model"], held["critic"], held["tally"]
        held |= {"weights": list(self.model.variables)} | vars(self.tally)
        if self.critic:
            held |= {"critic": list(self.critic.model.variables), "critic_optimizer": self.critic.optimizer}
        return held


def _count() -> tf.Variable:
    return tf.Variable(0, dtype=tf.int64, trainable=False)
