"""The pipeline: from files to a folder of predictions, on any runner, written whole or not at all."""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineState

from cae import cli
from cae.beam import outputs, paths
from cae.beam.discoveries import MarkDiscoveries
from cae.beam.outputs import WriteOutput
from cae.beam.predictions import Predict
from cae.beam.progress import SECONDS_PER_LINE, summarize_metrics
from cae.beam.sources import ReadImages
from cae.beam.tasks import Task
from cae.errors import UserError


@dataclasses.dataclass(frozen=True)
class Job:
    """What is predicted and where it is written.

    Attributes:
      images: The images.
      task: What is computed of them.
      fdr: The false discovery rate of outliers among all images; None for tasks that find none.
      output: The folder to write, which does not exist.
      settings: What summary.json says beside the numbers.
    """

    images: ReadImages
    task: Task
    fdr: float | None
    output: str
    settings: dict[str, Any]


def run(job: Job, options: PipelineOptions) -> dict[str, Any]:
    """Runs the pipeline of a job.

    Args:
      job: The job.
      options: Beam's options, the runner among them.

    Returns:
      The content of summary.json, and the line `metrics` if the runner has any.

    Raises:
      UserError: The pipeline failed, and nothing was written; or `output` cannot be written, and the message names the
        folder of the predictions.
    """
    temporary = paths.temporary_beside(job.output)
    try:
        with _refuse_failures(), _hide_stacks():
            pipeline = beam.Pipeline(make_runner(options), options=options)
            build(pipeline, job, temporary)
            result = pipeline.run()
            with _show_metrics(result):
                result.wait_until_finish()
            if result.state != PipelineState.DONE:
                raise UserError(f"the pipeline ended as {result.state}")
            summary = outputs.read_summary(temporary)
    except BaseException:
        paths.remove(temporary)
        raise
    try:
        paths.remove(_spill_folder(temporary))
        paths.check_absent(job.output)
        paths.commit(temporary, job.output, last=outputs.SUMMARY)
    except Exception as error:  # Hours of work are not lost for a name.
        raise UserError(f"{_last_line(error)}; predictions that are not there are in {temporary}") from error
    metrics = summarize_metrics(result)
    return summary | ({"metrics": metrics} if metrics else {})


def build(pipeline: beam.Pipeline, job: Job, folder: str) -> None:
    """Adds what reads, predicts and writes to a pipeline."""
    images = pipeline | "ReadImages" >> job.images
    predicted = images.images | "Predict" >> beam.ParDo(Predict(job.task)).with_outputs("failed", main="tables")
    tables = predicted.tables
    if job.fdr is not None:
        tables = tables | "MarkDiscoveries" >> MarkDiscoveries(job.fdr, job.task.schema, _spill_folder(folder))
    failed = (images.failed, predicted.failed) | "AllFailed" >> beam.Flatten()
    _ = (tables, failed) | "WriteOutput" >> WriteOutput(folder, job.task, job.settings)


def _spill_folder(folder: str) -> str:
    return FileSystems.join(folder, "spilled")


def make_runner(options: PipelineOptions) -> Any:
    """Returns the runner that the options name, by default Beam's on this machine.

    Beam's own `DirectRunner` would first try to download another one, and then take this one.
    """
    name = options.view_as(StandardOptions).runner
    if name not in (None, "DirectRunner"):
        return name
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    provision_info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision_info))


@contextlib.contextmanager
def _refuse_failures() -> Iterator[None]:
    """A context in which whatever a runner raises becomes one line for the user."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Runners raise errors of many kinds.
        logging.debug("the pipeline failed", exc_info=True)
        raise UserError(f"the pipeline failed, nothing was written: {_last_line(error)}") from error


@contextlib.contextmanager
def _hide_stacks() -> Iterator[None]:
    """A context in which stacks of Beam's threads are printed with --verbosity=0 only: the error says why."""
    logger, hook = logging.getLogger("apache_beam"), threading.excepthook
    level, is_hidden = logger.level, not logging.getLogger().isEnabledFor(logging.INFO)
    if is_hidden:
        logger.setLevel(logging.CRITICAL)
        threading.excepthook = lambda arguments: None
    try:
        yield
    finally:
        logger.setLevel(level)
        threading.excepthook = hook


def _last_line(error: Exception) -> str:
    """Returns the line of an error that says what happened: behind the stack of a worker, or the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
    return line.partition(" [while running ")[0]


@contextlib.contextmanager
def _show_metrics(result: Any) -> Iterator[None]:
    """A context in which the metrics are printed every ten seconds, by runners that do not wait in `run`."""
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(SECONDS_PER_LINE):
            if not PipelineState.is_terminal(result.state) and (line := summarize_metrics(result)):
                cli.print_line(line)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def make_options(words: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options of the words of a command line; workers log warnings unless these say otherwise."""
    return PipelineOptions(["--default_sdk_harness_log_level=WARNING", *words])
