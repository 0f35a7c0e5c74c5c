"""Evaluates a trained autoencoder and writes its report: python eval.py --workdir=runs/denoise [--tasks=denoise]."""

import dataclasses

from absl import flags
from etils import epy

from cae import config, models, program, tasks
from cae.data import noise, sources

# What a person typed is checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    from cae.data import pipeline
    from cae.report import history, page
    from cae.tasks import subject
    from cae.training import checkpoint

DEFAULT_NOISE = "gaussian:0.5"
"""What a model that was trained on clean images is tried out on."""


def define_flags() -> None:
    """Defines the flags that only an evaluation has."""
    flags.DEFINE_list("tasks", [], f"What to evaluate: {', '.join(tasks.TASKS)}; all of them unless said.")
    flags.DEFINE_integer("max_examples", 10, "How many test images figures show.", lower_bound=1, upper_bound=100)


def main() -> None:
    """Reads the flags and the run's record, restores the best model, runs the tasks and writes the report."""
    values = flags.FLAGS
    chosen, workdir, said = tasks.find(values.tasks), config.workdir_from_flags(), config.said_settings()
    record = config.read_record(workdir)
    settings = config.settings_of(record)
    config.check_same_run(record, said, but={"noise", "data_dir"})
    noise_name = said.get("noise") or settings.noise or DEFAULT_NOISE
    corrupt = noise.parse(noise_name)
    used = {"dataset": record["dataset"]["name"], "data_dir": said.get("data_dir") or settings.data_dir}
    source = sources.open_source(dataclasses.replace(settings, **used))
    config.check_same_images(record, source.describe())

    program.start_tensorflow()
    model = models.build(settings, source.image_shape)
    step = checkpoint.restore_best(workdir / "checkpoints", model)
    epochs = history.read(workdir / "metrics.jsonl")
    trial = subject.Subject(
        model=model,
        batches=pipeline.held_out_batches(source, settings.seed),
        noise=corrupt,
        noise_name=noise_name,
        class_names=source.class_names,
        max_examples=values.max_examples,
    )
    sections = [task.run(trial) for task in chosen] + ([history.section(epochs)] if epochs else [])
    facts = history.facts(record, step, epochs, model.count_params())
    title = f"{source.name}: {settings.model} autoencoder, trained on {settings.noise or 'clean images'}"
    path = page.write(workdir / "report", title, record["dataset"]["warning"], facts, sections)
    if warning := record["dataset"]["warning"]:
        print(f"warning: {warning}")
    for section in sections:
        print(section.headline, end="\n" if section.headline else "")
    print(f"report: {path}")


if __name__ == "__main__":
    config.define_flags()
    flags.adopt_module_key_flags(config)  # So that --help lists them.
    define_flags()
    program.run(main)
