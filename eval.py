"""Evaluates a trained model and writes its report: python eval.py --workdir=runs/denoise [--tasks=denoise].

With --images=PATH it cleans a person's own pictures instead.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from absl import flags
from etils import epy

from cae import config, models, program, tasks
from cae.data import noise, sources
from cae.errors import UserError

# What a person typed is checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    from cae.data import originals, pipeline
    from cae.report import cleaned, history, page
    from cae.tasks import clean, subject
    from cae.training import checkpoint


def define_flags() -> None:
    """Defines the flags that only an evaluation has."""
    flags.DEFINE_list(
        "tasks", [], f"What to evaluate: {', '.join(tasks.TASKS)}; all that the model can do unless said."
    )
    flags.DEFINE_list("compare", [], "Workdirs of other runs whose models denoise the same images.")
    flags.DEFINE_string("images", None, "A picture or a folder of them to clean, instead of an evaluation.")
    flags.DEFINE_integer("max_examples", 10, "How many images figures show.", lower_bound=1, upper_bound=100)
    flags.DEFINE_integer(
        "rival_images", 1000, "How many test images methods without learning are tried on.", lower_bound=1
    )


def main() -> int:
    """Reads the flags and the run's record, and evaluates its best model or cleans pictures with it."""
    values, workdir = flags.FLAGS, config.workdir_from_flags()
    tasks.check(values.tasks)
    said, record = config.said_settings(), config.read_record(workdir)
    settings = config.settings_of(record)
    config.check_same_run(record, said, but={"noise", "data_dir"})
    chosen = tasks.find(values.tasks, settings.model, images=values.images is not None)
    if values.images is not None:
        if values.compare:
            raise UserError("--compare has no meaning with --images, which one model cleans")
        return clean_pictures(workdir, record, Path(values.images).expanduser())
    return evaluate(workdir, record, settings, said, chosen)


def evaluate(
    workdir: Path, record: dict[str, Any], settings: config.Config, said: dict[str, Any], chosen: list[Any]
) -> int:
    """Runs the tasks on the run's own data set and writes the report."""
    values = flags.FLAGS
    noises = tasks.noises(said.get("noise"), settings.noise)
    used = {"dataset": record["dataset"]["name"], "data_dir": said.get("data_dir") or settings.data_dir}
    source = sources.open_source(dataclasses.replace(settings, **used))
    source = dataclasses.replace(source, read=functools.cache(source.read))
    config.check_same_images(record, source.describe())
    others = config.read_others(values.compare, record)

    program.start_tensorflow()
    rivals = {name: trained(folder, held)[0] for name, (folder, held) in others.items()}
    ours, step = trained(workdir, record)
    epochs = history.read(workdir / "metrics.jsonl")
    trial = subject.Subject(
        trained=ours,
        batches=pipeline.held_out(source, settings.seed),
        read=source.read,
        noises=noises,
        class_names=source.class_names,
        max_examples=values.max_examples,
        others=rivals,
        rival_images=values.rival_images,
    )
    sections = [task.run(trial) for task in chosen] + ([history.section(epochs)] if epochs else [])
    facts = history.facts(record, step, epochs, ours.model.count_params())
    title = f"{source.name}: {settings.model}, trained on {settings.noise or 'clean images'}"
    path = page.write(workdir / "report", title, record["dataset"]["warning"], facts, sections)
    if warning := record["dataset"]["warning"]:
        print(f"warning: {warning}")
    for section in sections:
        print(section.headline, end="\n" if section.headline else "")
    print(f"report: {path}")
    return 0


def clean_pictures(workdir: Path, record: dict[str, Any], path: Path) -> int:
    """Cleans the pictures at `path` and says what became of them; 3 where any could not be cleaned."""
    files = originals.find(path)
    program.start_tensorflow()
    ours, _ = trained(workdir, record)
    results = clean.run(ours.model, record["dataset"]["image_shape"], originals.read_each(files))
    count, skipped = cleaned.write(workdir / "report", results, flags.FLAGS.max_examples)
    if warning := record["dataset"]["warning"]:
        print(f"warning: {warning}")
    print(f"{count} of {len(files)} files cleaned: {workdir / 'report' / 'denoised'}")
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    return program.SOME_LEFT_OUT if skipped else 0


def trained(workdir: Path, record: dict[str, Any]) -> "tuple[subject.Trained, int]":
    """Returns the best model of a run, and the step that it is of."""
    settings = config.settings_of(record)
    model = models.build(settings, tuple(record["dataset"]["image_shape"]))
    step = checkpoint.restore_best(workdir / "checkpoints", model)
    return subject.Trained(model, noise.parse(settings.noise)), step


if __name__ == "__main__":
    config.define_flags()
    flags.adopt_module_key_flags(config)  # So that --help lists them.
    define_flags()
    program.run(main)
