"""The phases of a run: consecutive epochs in which one objective is minimized."""

import dataclasses
from collections.abc import Callable, Iterator

import tensorflow as tf

from cae.config import Config
from cae.data.pipeline import TrainData
from cae.models import get_model_spec
from cae.training import distribution
from cae.training.objectives import Objective, get_objective, make_objective
from cae.training.train_state import TrainState
from cae.training.train_step import make_evaluate, make_train_steps


@dataclasses.dataclass(frozen=True)
class Phase:
    """An objective, and the functions that `make_train_steps` and `make_evaluate` make of it."""

    objective: Objective
    train_steps: Callable
    evaluate: Callable


class Phases:
    """Gives each epoch its phase; graph functions are made when they are first needed.

    Attributes:
      last: The epoch from which the last phase is.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        state: TrainState,
        objectives: dict[int, Objective],
        train_data: TrainData,
    ):
        self._strategy, self._state, self._objectives, self._train_data = strategy, state, objectives, train_data
        self._phases: dict[int, Phase] = {}
        self.last = max(objectives)

    def get(self, epoch: int) -> Phase:
        """Returns the phase of an epoch, counted from 1."""
        first_epoch = max(first for first in self._objectives if first <= epoch)
        if first_epoch not in self._phases:
            objective = self._objectives[first_epoch]
            self._phases[first_epoch] = Phase(
                objective,
                make_train_steps(self._strategy, self._state, objective, self._train_data.batch_size),
                make_evaluate(self._strategy, self._state.model, objective),
            )
        return self._phases[first_epoch]

    def start(self, epoch: int, is_first_step: bool) -> Phase:
        """Returns the phase of an epoch, for which the state is prepared if the phase starts.

        A phase starts with the first step of its first epoch, or later in a run that had other --epochs before.
        """
        phase = self.get(epoch)
        starts = epoch in self._objectives and is_first_step
        if starts or not phase.objective.is_initialized(self._state.model):
            broadcast = distribution.make_broadcast(self._strategy)
            phase.objective.initialize(self._state.model, self._sample_images(), broadcast)
            # The losses of phases are not comparable.
            self._state.best_loss.assign(float("inf"))
        return phase

    def _sample_images(self) -> Iterator[tf.Tensor]:
        # A generator expression would make the batches at once, which most objectives do not take.
        for batch in self._train_data.sample:
            yield batch["image"]


def get_objectives(config: Config) -> dict[int, Objective]:
    """Returns the objectives of a run by the epoch, counted from 1, from which each is minimized."""
    objectives = {1: get_objective(config)}
    if config.classifier_epochs and get_model_spec(config.model).has_clusters:
        objectives[config.epochs - config.classifier_epochs + 1] = make_objective("pseudo_labels", config)
    return objectives
