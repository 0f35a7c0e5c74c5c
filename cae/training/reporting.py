"""What people see of a run while it goes on: lines and a bar, TensorBoard's events and pictures, metrics.jsonl."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cae.data.pipeline import Feed
from cae.report import figures
from cae.training.progress import Progress
from cae.training.state import State
from cae.training.summaries import Summaries, settings_table

EXAMPLES, SAMPLES = 8, 64
"""Images in TensorBoard's pictures."""


class Reporter:
    """Tells of a run; a context at whose end the bar and the events do, too. Of several processes but one speaks."""

    def __init__(self, workdir: Path, record: dict[str, Any], feed: Feed, state: State, speaks: bool):
        self._workdir, self._record, self._feed, self._state, self._speaks = workdir, record, feed, state, speaks
        self._epochs = record["settings"]["epochs"]
        self._progress: Progress | None = None
        self._summaries: Summaries | None = None

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress and self._summaries:
            self._progress.close()
            self._summaries.close()

    def say(self, *lines: str) -> None:
        """Prints lines."""
        if self._speaks and lines:
            print("\n".join(lines), flush=True)

    def damaged(self, checkpoints: list[str]) -> None:
        """Tells of checkpoints that can't be read."""
        self.say(*(f"checkpoint {name} is damaged: passed over" for name in checkpoints))

    def start(self, replicas: int) -> None:
        """Tells from where the run goes to where, and takes back what an earlier try told of what comes next."""
        state, feed = self._state, self._feed
        self.say(
            f"{state.model.count_params():,} weights, {feed.images:,} images in batches of {feed.batch_size}, "
            f"{replicas} replica{'s' * (replicas > 1)}; everything goes to {self._workdir}",
            *([f"going on after epoch {state.epochs} (step {state.steps})"] if state.steps else []),
        )
        self._open()

    def go_back(self, why: str) -> None:
        """Tells that the run goes on from an earlier step than it was at."""
        self.say(f"warning: {why}: going back to step {self._state.steps}")
        self.__exit__()
        self._open()

    def advance(self, epoch: int, steps: int, loss: float) -> None:
        """Tells of so many more steps, with this mean loss."""
        if self._progress:
            self._progress.advance(epoch, steps * self._feed.batch_size, loss)

    def write_epoch(self, epoch: int, scalars: dict[str, float]) -> None:
        """Writes what an epoch came to where it lasts; raises `OSError` where there is no room for it."""
        if not self._summaries:
            return
        self._summaries.scalars(self._state.steps, epoch, scalars)
        if epoch % self._record["settings"]["pictures_every"] == 0 or epoch in (1, self._epochs):
            for name, figure in pictures(self._state.model, self._feed.validation).items():
                self._summaries.picture(self._state.steps, name, figure)
        self._summaries.flush()

    def say_epoch(self, epoch: int, scalars: dict[str, float], best: bool) -> None:
        """Prints what an epoch came to, once it is saved."""
        if self._progress:
            self._progress.report(epoch, scalars, best)

    def _open(self) -> None:
        if not self._speaks:
            return
        state, feed, settings = self._state, self._feed, self._record["settings"]
        self._progress = Progress(feed.images, state.steps * feed.batch_size, self._epochs)
        self._summaries = Summaries(self._workdir, state.epochs, feed.steps(state.epochs))
        if state.epochs == 0:
            self._summaries.text("configuration", settings_table(settings, self._record["dataset"]["warning"]))
        self._summaries.hyperparameters(settings)


def pictures(model: keras.Model, batches: tf.data.Dataset) -> dict[str, figures.Figure]:
    """Returns what TensorBoard shows of a model, by name.

    examples: the first images of a data set, input, noisy input, output and latent vector, if any, side by side;
    samples: images decoded from what a model with a prior draws from it, the same vectors every time.
    """
    batch = next(iter(batches))
    clean, noisy = batch["image"][:EXAMPLES], batch["noisy"][:EXAMPLES]
    columns = {"input": clean, "noisy input": noisy, "output": model(noisy)}
    latents = model.encode(noisy).numpy() if hasattr(model, "encode") else None
    shown = {"examples": figures.display({title: images.numpy() for title, images in columns.items()}, latents)}
    if hasattr(model, "sample"):
        samples = model.sample(SAMPLES, seed=0).numpy()
        shown["samples"] = figures.mosaic(dict(enumerate(samples.reshape(-1, 8, *samples.shape[1:]))))
    return shown
