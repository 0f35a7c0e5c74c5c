"""All output of a training run: console, progress bar, TensorBoard and metrics.jsonl."""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from matplotlib.figure import Figure
from tqdm import tqdm

from cae import progress
from cae.config import Config
from cae.data.pipeline import TrainData
from cae.io_utils import atomic_write, printable, temporary_path
from cae.models.base import Autoencoder, GenerativeAutoencoder
from cae.report import figures
from cae.training.event_files import os_errors, purge_events_after, write_hparams
from cae.training.train_state import TrainState, num_train_epochs, num_train_steps

NUM_EXAMPLES, NUM_PRIOR_SAMPLES = 8, 64
"""Numbers of images in TensorBoard's figures."""

NUM_IMAGE_SUMMARIES = 10
"""How many of a tag TensorBoard shows; there are no more by default, with those of the first and the last epoch."""

TAG_GROUPS = dict.fromkeys(("learning_rate", "images_per_second"), "epoch_rates") | dict.fromkeys(
    ("epoch_seconds", "rss_mib", "nonfinite_steps", "rollbacks"), "system"
)
"""TensorBoard's groups of charts for what is not a loss or a metric; those are the first group, 'epoch'."""

DISK_PROBE_BYTES = 2**16
"""The disk must have room for so many bytes after each epoch: more than an epoch's scalars."""


class MetricWriter:
    """Writes what a training run reports.

    All methods do nothing in a process that is not the chief.
    """

    def __init__(
        self, workdir: Path, run_config: dict[str, Any], train_data: TrainData, state: TrainState, is_chief: bool
    ):
        """Prepares the output; `start` opens it.

        Args:
          workdir: The run's folder.
          run_config: The content of its config.json.
          train_data: What the model is trained on.
          state: The state of the training, whose step and epoch are reported.
          is_chief: Whether this process is the one that reports.
        """
        self._workdir, self._train_data, self._state, self._is_chief = workdir, train_data, state, is_chief
        self._warning = run_config["dataset"]["warning"]
        self._config = {
            name: printable(value) if isinstance(value, str) else value for name, value in run_config["config"].items()
        }
        self._metrics, self._tensorboard = workdir / "metrics.jsonl", workdir / "tensorboard"
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._bar: progress.Lines | tqdm | None = None
        self._start_time, self._start_step = time.monotonic(), 0
        config = Config.from_dict(self._config)
        self._num_steps, self._num_epochs = num_train_steps(config, train_data), num_train_epochs(config, train_data)
        self._image_epochs = config.image_summary_epochs or -(-self._num_epochs // (NUM_IMAGE_SUMMARIES - 1))

    def close(self) -> None:
        """Closes the progress bar and the event files."""
        if self._bar:
            self._bar.close()
        for writer in self._writers.values():
            writer.close()

    def log(self, *lines: str) -> None:
        """Prints lines to the console."""
        if self._is_chief and lines:
            for line in lines:
                progress.write_line(printable(line))

    def log_corrupt_checkpoints(self, names: list[str]) -> None:
        """Prints the names of checkpoints that were skipped."""
        self.log(*(f"skipping corrupt checkpoint {name}" for name in names))

    def start(self, num_replicas: int) -> None:
        """Prints where the run starts and opens all files; removes what was written past the state's epoch."""
        state, train_data = self._state, self._train_data
        self.log(
            f"{state.model.count_params():,} parameters, {train_data.num_images:,} images in batches of"
            f" {train_data.batch_size}, {num_replicas} replica{'s' * (num_replicas > 1)}; writing to {self._workdir}"
        )
        if state.global_step:
            self.log(f"resuming from epoch {state.completed_epochs} (step {state.global_step})")
        self._open()

    def roll_back(self, reason: str) -> None:
        """Prints why the state was restored to the end of an epoch, and removes what was written past it."""
        self.log(f"warning: {reason}: rolling back to step {self._state.global_step}")
        self.close()
        self._open()

    def advance(self, epoch: int, num_steps: int, loss: float) -> None:
        """Advances the progress bar.

        Args:
          epoch: The epoch under way, counted from 1.
          num_steps: Number of steps since the last call.
          loss: The mean training loss of the epoch so far.
        """
        if not self._bar:
            return
        self._bar.set_description_str(f"epoch {epoch}/{self._num_epochs}")
        self._bar.set_postfix_str(f"loss {loss:.5f}", refresh=False)
        self._bar.update(num_steps * self._train_data.batch_size)

    def write_epoch(self, epoch: int, scalars: dict[str, float]) -> None:
        """Writes the scalars of an epoch, and in some epochs images.

        Args:
          epoch: The epoch, counted from 1.
          scalars: Values by name. 'train/loss' is the loss of TensorBoard's run 'train', and so is one without a run.

        Raises:
          OSError: The disk is full.
        """
        if not self._is_chief:
            return
        step = self._state.global_step
        for name, value in scalars.items():
            run, _, metric = name.rpartition("/")
            with self._writers[run or "train"].as_default(step):
                tf.summary.scalar(epoch_tag(metric), value)
        if epoch % self._image_epochs == 0 or epoch in (1, self._num_epochs):
            examples = self._train_data.examples or self._train_data.validation
            with self._writers["validation"].as_default(step):
                for name, figure in image_summaries(self._state.model, examples).items():
                    tf.summary.image(f"images/epoch/{name}", tf.io.decode_png(figures.png(figure), channels=3)[None])
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, "epoch": epoch} | scalars) + "\n")
            file.flush()
            os.fsync(file.fileno())
        for writer in self._writers.values():
            writer.flush()
        # TensorFlow's writer does not report a full disk.
        with tempfile.TemporaryFile(dir=self._tensorboard) as file:
            file.write(bytes(DISK_PROBE_BYTES))
            file.flush()

    def write_graph(self, graph: tf.Graph) -> None:
        """Writes a graph for TensorBoard's tab of graphs."""
        with self._writers["train"].as_default():
            tf.summary.graph(graph)

    def log_epoch(self, epoch: int, scalars: dict[str, float], is_best: bool) -> None:
        """Prints the metrics of an epoch, once it is saved."""
        if not self._is_chief:
            return
        step = self._state.global_step
        seconds_per_step = (time.monotonic() - self._start_time) / max(step - self._start_step, 1)
        columns = [
            f"epoch {epoch}/{self._num_epochs}",
            f"loss {scalars['train/loss']:.5f}",
            f"validation loss {scalars['validation/loss']:.5f}" + (" (best)" if is_best else ""),
            f"PSNR {scalars['validation/psnr']:.2f} dB",
            f"SSIM {scalars['validation/ssim']:.3f}",
            f"{scalars['images_per_second']:,.0f} images/s",
            f"{progress.format_seconds(seconds_per_step * max(self._num_steps - step, 0))} left",
        ]
        progress.write_line("  ".join(columns))

    def _open(self) -> None:
        if not self._is_chief:
            return
        state, train_data = self._state, self._train_data
        _purge_lines_after(state.completed_epochs, self._metrics)
        for run in ("train", "validation"):
            (self._tensorboard / run).mkdir(parents=True, exist_ok=True)
            epoch_end = train_data.num_steps(state.completed_epochs) if state.completed_epochs else -1
            with os_errors():
                purge_events_after(epoch_end, self._tensorboard / run)
                self._writers[run] = tf.summary.create_file_writer(str(self._tensorboard / run))
        if state.completed_epochs == 0:
            with self._writers["train"].as_default(0):
                tf.summary.text("config", config_table(self._config, self._warning))
        write_hparams(self._tensorboard, self._config)
        self._start_time, self._start_step = time.monotonic(), state.global_step
        self._bar = progress.start(
            f"epoch {state.completed_epochs + 1}/{self._num_epochs}",
            self._num_steps * train_data.batch_size,
            "image",
            initial=state.global_step * train_data.batch_size,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt} {remaining} left{postfix}",
        )


def epoch_tag(name: str) -> str:
    """Returns TensorBoard's tag of a scalar: 'epoch/loss' is Keras' 'epoch_loss', in one group with the other metrics.

    TensorBoard groups by what comes before the slash, sorts groups by name, and takes '_' for a slash: the names put
    metrics first, then rates, 'eval', 'images' and 'system'.
    """
    return f"{TAG_GROUPS.get(name, 'epoch')}/{name}"


def image_summaries(model: keras.Model, batches: tf.data.Dataset) -> dict[str, Figure]:
    """Returns the figures that TensorBoard shows of a model, by tag.

    Args:
      model: The model; one with a prior is sampled with the same latent vectors every time.
      batches: Batches of images, of which the first ones are shown.

    Returns:
      `reconstructions`: images, what the model sees, its output and latent vector, if any, in rows. `prior_samples`:
      images decoded from samples of the prior, if there is one.
    """
    batch = next(iter(batches))
    image, corrupted = batch["image"][:NUM_EXAMPLES], batch["input"][:NUM_EXAMPLES]
    columns = {"input": image, "noisy input": corrupted, "output": model(corrupted)}
    latents = model.encode(corrupted).numpy() if isinstance(model, Autoencoder) else None
    columns = {name: each.numpy() for name, each in columns.items()}
    if (columns["input"] == columns["noisy input"]).all():
        del columns["noisy input"]
    summaries = {"reconstructions": figures.example_rows(columns, latents)}
    if isinstance(model, GenerativeAutoencoder):
        samples = model.sample(NUM_PRIOR_SAMPLES, seed=0).numpy()
        summaries["prior_samples"] = figures.image_table(dict(enumerate(samples.reshape(-1, 8, *samples.shape[1:]))))
    return summaries


def config_table(config: dict[str, Any], warning: str | None) -> str:
    """Returns a configuration as a Markdown table, below a warning if there is one."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in config.items() if value is not None)
    return (f"**Warning: {warning}**\n\n" if warning else "") + f"| field | value |\n|---|---|\n{rows}"


def _purge_lines_after(epoch: int, path: Path) -> None:
    """Removes the lines of metrics.jsonl past an epoch, and one that was not written completely."""
    temporary_path(path).unlink(missing_ok=True)
    if path.exists():
        lines = path.read_text(errors="replace").splitlines()
        with atomic_write(path) as file:
            file.writelines(f"{line}\n" for line in lines if _epoch_of(line) <= epoch)


def _epoch_of(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
