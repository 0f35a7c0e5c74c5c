"""Training from a configuration: the lock of its folder, its data set, its strategy, and the trainer."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epy

from cae import cli, progress, runtime
from cae.config import Config, check_divisible
from cae.errors import UserError, unwrap_graph_error
from cae.preemption import PreemptionHandler
from cae.workdir import lock_workdir, write_run_config

# What the user named is checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    import tensorflow as tf

    from cae import metrics, models
    from cae.data import datasets, noise, pipeline
    from cae.training import distribution, phases, train_state, trainer


def train(
    config: Config,
    workdir: Path,
    signals: PreemptionHandler | None = None,
    profile_steps: tuple[int, int] | None = None,
) -> None:
    """Trains a model, or resumes its training, while the run's folder is locked.

    Args:
      config: The configuration.
      workdir: The run's folder.
      signals: Of a program that is to end in order after a signal.
      profile_steps: The first and the last step to profile, counted from 1; None for no profile.

    Raises:
      UserError: A name is unknown, the data set is not available, or as `lock_workdir` and `Trainer.train`.
      Preempted: A signal was received; the state is saved.
    """
    models.check_model_flags(config.model, config.changed())
    models.check_image_sizes(config)
    warning = models.check_cluster_config(config)
    metrics.get_loss(config.loss)
    noise.parse_noise(config.noise)
    signals = signals or PreemptionHandler()
    is_chief = runtime.is_chief(config.distribution_strategy)
    if not is_chief:
        progress.stop_lines()
    # Workers wait for each other first: one that ended before would be waited for.
    strategy = _make_strategy(config, signals) if config.distribution_strategy == runtime.MULTI_WORKER else None
    with lock_workdir(workdir) if is_chief else contextlib.nullcontext():
        if datasets.uses_tensorflow(config):
            strategy = strategy or _make_strategy(config, signals)
        dataset = datasets.open_dataset(config)
        datasets.check_dataset(dataset, config.batch_size)
        strategy = strategy or _make_strategy(config, signals)
        notices = [warning, runtime.find_precision_warning(config.precision)]
        for line in [*dataset.warnings(), *(f"warning: {each}" for each in notices if each)] if is_chief else ():
            cli.print_line(line)
        with signals.deferred() as poll_signal:
            run_training(strategy, config, dataset, workdir, poll_signal, profile_steps)


def run_training(
    strategy: "tf.distribute.Strategy",
    config: Config,
    dataset: "datasets.ImageDataset",
    workdir: Path,
    poll_signal: Callable[[], int] = lambda: 0,
    profile_steps: tuple[int, int] | None = None,
) -> None:
    """Trains a model, or resumes its training, in a folder that the caller has locked.

    `poll_signal` and `profile_steps` are `Trainer`'s.

    Raises `UserError` where the folder contains another run or another worker is gone, and what `Trainer.train` raises.
    """
    with _report_lost_workers(strategy):
        _make_trainer(strategy, config, dataset, workdir, poll_signal, profile_steps).train()


def _make_trainer(
    strategy: "tf.distribute.Strategy",
    config: Config,
    dataset: "datasets.ImageDataset",
    workdir: Path,
    poll_signal: Callable[[], int],
    profile_steps: tuple[int, int] | None,
) -> "trainer.Trainer":
    check_divisible(config.batch_size, strategy.num_replicas_in_sync)
    models.check_cluster_config(config, len(dataset.splits["train"]))
    run_config = write_run_config(workdir, config, dataset.info(), write=distribution.is_chief(strategy))
    train_data = make_train_data(config, dataset)
    objectives = phases.get_objectives(config)
    state = train_state.TrainState.create(
        strategy,
        config,
        dataset.image_shape,
        train_state.num_train_steps(config, train_data),
        restart_step=train_data.num_steps(max(objectives) - 1),
    )
    return trainer.Trainer(strategy, state, objectives, train_data, workdir, run_config, poll_signal, profile_steps)


@contextlib.contextmanager
def _report_lost_workers(strategy: "tf.distribute.Strategy") -> Iterator[None]:
    """A context in which errors of collective operations are raised as `UserError`, since another worker is gone."""
    try:
        yield
    except tf.errors.OpError as error:
        # Errors of this worker's own are of other classes than those of lost connections.
        local = (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)
        if unwrap_graph_error(error) or isinstance(error, local) or not distribution.is_multi_worker(strategy):
            raise
        raise UserError(
            "lost connection to another worker; rerun the same commands on all workers to resume from the last"
            " checkpoint"
        ) from error


def make_train_data(config: Config, dataset: "datasets.ImageDataset") -> "pipeline.TrainData":
    """Returns the batches that a configuration trains on."""
    corruption, noisy_target = noise.parse_noise(config.noise), config.objective == "noise2noise"
    return pipeline.make_train_data(dataset, corruption, config.batch_size, config.seed, noisy_target)


def _make_strategy(config: Config, signals: PreemptionHandler) -> "tf.distribute.Strategy":
    """Imports TensorFlow, and returns the configured strategy."""
    runtime.import_tensorflow()
    strategy = distribution.make_strategy(config.distribution_strategy, config.logical_cpus)
    signals.reinstall()  # Some strategies install a handler of their own for SIGTERM.
    return strategy
