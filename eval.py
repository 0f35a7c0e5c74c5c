"""Evaluates a trained model and writes its report: python eval.py --workdir=runs/denoise [--tasks=denoise,outliers].

With --images=PATH it takes a person's own pictures instead: cleans them, squeezes them into latent vectors and back,
shows what lies between them, and says which of them belong to the data set.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from etils import epy

from cae import config, models, program, tasks
from cae.data import noise, sources
from cae.errors import UserError
from cae.outliers import scores, thresholds

# What a person typed is checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    import numpy as np

    from cae import runs
    from cae.data import originals, panel, pipeline
    from cae.latents import mixing
    from cae.outliers import detector as detectors
    from cae.report import cleaned, history, page, screened
    from cae.tasks import clean, fitted, own, screen, subject, tuning
    from cae.training import summaries


Files = list[tuple[str, Path]]
"""Names of pictures and where they are."""


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and those that only an evaluation has."""
    config.define_flags()
    flags.adopt_module_key_flags(config)  # So that --help lists them.
    flags.DEFINE_list(
        "tasks", [], f"What to evaluate: {', '.join(tasks.TASKS)}; all that the model can do unless said."
    )
    flags.DEFINE_list("compare", [], "Workdirs of other runs whose models denoise the same images.")
    flags.DEFINE_string(
        "images", None, "Pictures of your own, a folder or several files by commas, to be taken, not an evaluation."
    )
    flags.DEFINE_string("mixing", "0,0.1,...,1", "Degrees of mixing of two images, 0 is the first; '...' goes on.")
    flags.DEFINE_integer("pairs", 300, "How many pairs of test images of a kind are interpolated.", lower_bound=1)
    flags.DEFINE_integer("max_examples", 10, "How many images figures show.", lower_bound=1, upper_bound=100)
    flags.DEFINE_integer(
        "rival_images", 1000, "How many test images methods without learning are tried on.", lower_bound=1
    )
    flags.DEFINE_integer(
        "baseline_tuning_images", 64, "How many validation images those methods are tuned on.", lower_bound=1
    )
    flags.DEFINE_string(
        "cache_dir", None, "Where their best settings are cached; $XDG_CACHE_HOME/cae or ~/.cache/cae unless said."
    )
    flags.DEFINE_integer(
        "kmeans_n_init",
        None,
        "How often k-means is begun; as time allows unless said.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "tsne_images", tasks.TSNE_IMAGES, "How many images are on maps of latent vectors; 0 leaves out that by t-SNE."
    )
    flags.register_validator(
        "tsne_images",
        lambda count: count == 0 or count >= tasks.LEAST_TSNE_IMAGES,
        f"must be 0, for no t-SNE, or at least {tasks.LEAST_TSNE_IMAGES}",
    )
    flags.DEFINE_float("alpha", None, f"The rate of false alarms that outliers may cost; {thresholds.DEFAULT_ALPHA}.")
    flags.DEFINE_string("score", next(iter(scores.SCORES)), f"How odd an image is: {', '.join(scores.SCORES)}.")
    flags.DEFINE_string("threshold", next(iter(thresholds.THRESHOLDS)), f"One of: {', '.join(thresholds.THRESHOLDS)}.")
    flags.DEFINE_list("outlier_datasets", ["fashion_mnist"], "Other data sets, which do not belong; or 'folder:PATH'.")
    flags.DEFINE_integer("outlier_images", 2000, "How many outliers of a kind are tried.", lower_bound=1)
    flags.DEFINE_enum(
        "invert", "auto", ["auto", "always", "never"], "Turn bright into dark in --images that a model is to take."
    )
    flags.DEFINE_float(
        "false_discovery_rate", 0.1, "Of all alarms in --images so many may be false.", lower_bound=0, upper_bound=1
    )


def main() -> int:
    """Reads the flags and the run's record, and evaluates its best model or takes pictures to it."""
    values, workdir = flags.FLAGS, config.workdir_from_flags()
    tasks.check(values.tasks)
    thresholds.find(values.threshold)
    said, record = config.said_settings(), config.read_record(workdir)
    settings = config.settings_of(record)
    config.check_same_run(record, said, but={"noise", "data_dir"})
    scores.find(values.score, models.find(settings.model).has_latents)
    chosen = tasks.find(values.tasks, settings.model, images=values.images is not None)
    if values.images is None:
        return evaluate(workdir, record, settings, said, chosen)
    if values.compare:
        raise UserError("--compare has no meaning with --images, which one model takes")
    files, skipped = originals.find_all(values.images), 0
    if "interpolate" in chosen and not tasks.MOST_BETWEEN >= len(files) >= 2:
        if "interpolate" in values.tasks:
            raise UserError(f"--tasks=interpolate takes 2 to {tasks.MOST_BETWEEN} --images; here are {len(files)}")
        chosen = {name: task for name, task in chosen.items() if name != "interpolate"}
    if "denoise" in chosen:
        skipped += clean_pictures(workdir, record, files)
    if chosen.keys() & {"reconstruct", "interpolate"}:
        skipped += show_pictures(workdir, record, settings, said, files, chosen)
    if "outliers" in chosen:
        skipped += screen_pictures(workdir, record, settings, said, files)
    return program.SOME_LEFT_OUT if skipped else 0


def evaluate(
    workdir: Path,
    record: dict[str, Any],
    settings: config.Config,
    said: dict[str, Any],
    chosen: Mapping[str, ModuleType],
) -> int:
    """Runs the tasks on the run's own data set and writes the report."""
    values = flags.FLAGS
    noises = tasks.noises(said.get("noise"), settings.noise)
    source = open_again(record, settings, said)
    for line in source.limits():
        print(line, flush=True)
    others = config.read_others(values.compare, record)
    degrees = mixing.degrees(values.mixing)

    program.start_tensorflow()
    rivals = {name: trained(runs.load(folder)) for name, (folder, _) in others.items()}
    run = runs.load(workdir)
    epochs = history.read(workdir / "metrics.jsonl")
    trial = subject.Subject(
        trained=trained(run),
        batches=pipeline.held_out(source, settings.seed),
        read=source.read,
        noises=noises,
        class_names=source.class_names,
        max_examples=values.max_examples,
        others=rivals,
        rival_images=values.rival_images,
        baseline_tuning_images=values.baseline_tuning_images,
        cache_dir=Path(values.cache_dir).expanduser() if values.cache_dir else tuning.default_cache_dir(),
        kmeans_n_init=values.kmeans_n_init,
        tsne_images=values.tsne_images,
        screening=screening(run, source, said) if "outliers" in chosen else None,
        interpolation=subject.Interpolation(degrees, values.pairs, run.settings.seed, source.judge),
    )
    sections = [task.run(trial) for task in chosen.values()] + ([history.section(epochs)] if epochs else [])
    facts = history.facts(record, run.step, epochs, run.model.count_params())
    taken = f" of classes {settings.classes}" if settings.classes else ""
    title = f"{source.name}{taken}: {settings.model}, trained on {settings.noise or 'clean images'}"
    path = page.write(workdir / "report", title, record["dataset"]["warning"], facts, sections)
    for section in sections[: len(chosen)]:
        summaries.write_evaluation(workdir, run.step, section)
    warn(record)
    for section in sections:
        print(section.headline, end="\n" if section.headline else "")
    print(f"report: {path}")
    return 0


def screening(run: "runs.Run", source: sources.Source, said: dict[str, Any]) -> "subject.Screening":
    """Fits and calibrates a detector, saves it in the run's folder, and collects the outliers that it is tried on."""
    values = flags.FLAGS
    data_dir = said.get("data_dir") or run.settings.data_dir
    own = run.record["dataset"]["name"]
    names = [name for name in values.outlier_datasets if name != own]
    labelled, skipped = panel.read_each(names, data_dir, run.image_shape, values.outlier_images)
    if len(names) < len(values.outlier_datasets):
        skipped[own] = "it is what the model was trained on"
    detector = make_detector(run, source, labelled)
    detector.save(run.workdir)
    return subject.Screening(
        detector=detector,
        labelled=labelled,
        left_out=source.left_out("test")[0] if source.left_out else None,
        skipped=skipped,
        images=values.outlier_images,
        seed=run.settings.seed,
    )


def make_detector(
    run: "runs.Run", source: sources.Source, labelled: "Mapping[str, np.ndarray]"
) -> "detectors.Detector":
    """Returns the detector that the flags name; half of the labelled outliers are for those rules that search."""
    values = flags.FLAGS
    return detectors.make(
        values.score,
        run.model,
        source.read("train")[0],
        source.read("calibration")[0],
        rule=values.threshold,
        alpha=values.alpha,
        outliers=np.concatenate([each[::2] for each in labelled.values()]) if labelled else None,
        step=run.step,
    )


def clean_pictures(workdir: Path, record: dict[str, Any], files: Files) -> int:
    """Cleans pictures, says what became of them, and returns how many could not be cleaned."""
    program.start_tensorflow()
    run = runs.load(workdir)
    results = clean.run(run.model, run.image_shape, originals.read_each(files))
    count, skipped = cleaned.write(workdir / "report", results, flags.FLAGS.max_examples)
    warn(record)
    print(f"{count} of {len(files)} files cleaned: {workdir / 'report' / 'denoised'}")
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    return len(skipped)


def show_pictures(
    workdir: Path,
    record: dict[str, Any],
    settings: config.Config,
    said: dict[str, Any],
    files: Files,
    chosen: Mapping[str, ModuleType],
) -> int:
    """Shows what a model keeps of pictures and what lies between them; returns how many could not be read."""
    values, degrees = flags.FLAGS, mixing.degrees(flags.FLAGS.mixing)
    program.start_tensorflow()
    run = runs.load(workdir)
    usual = detectors.background(open_again(record, settings, said).read("validation")[0])
    read = dict(originals.read_each(files))
    pictures = {
        name: fitted.fitted(each, run.image_shape, usual, values.invert)
        for name, each in read.items()
        if isinstance(each, originals.Original)
    }
    skipped = {name: why for name, why in read.items() if name not in pictures}
    sections = []
    if pictures and "reconstruct" in chosen:
        sections.append(own.reconstruct(run.model, pictures, values.max_examples))
    if len(pictures) > 1 and "interpolate" in chosen:
        sections.append(own.interpolate(run.model, pictures, degrees))
    facts = history.facts(record, run.step, history.read(workdir / "metrics.jsonl"), run.model.count_params())
    for section in sections:
        folder = workdir / "report" / section.name
        path = page.write(folder, section.title, record["dataset"]["warning"], facts, [section])
        summaries.write_evaluation(workdir, run.step, section)
        print(f"{section.headline}: {path}")
    warn(record)
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    return len(skipped)


def screen_pictures(
    workdir: Path, record: dict[str, Any], settings: config.Config, said: dict[str, Any], files: Files
) -> int:
    """Says which of the pictures belong to the data set, and returns how many could not be read."""
    values = flags.FLAGS
    program.start_tensorflow()
    run = runs.load(workdir)
    if detectors.is_there(workdir, run.step, **said_of_detector()):
        detector = detectors.read(workdir, run.model, run.image_shape, run.step).with_alpha(values.alpha)
    else:
        print("there is no such detector of this model yet: it is fitted to the training images first", flush=True)
        detector = screening(run, open_again(record, settings, said), said).detector
    results = screen.run(detector, originals.read_each(files), values.invert)
    alarms = functools.partial(thresholds.alarms, rate=values.false_discovery_rate)
    told, skipped = screened.write(workdir / "report", results, alarms, max(values.max_examples, 60))
    warn(record)
    odd = [name for name, each in told if not each.belongs]
    print(f"{len(told) - len(odd)} of {len(told)} files belong, by {detector.name} and {detector.described()}")
    hidden = sum(bool(each.warnings) for _, each in told)
    if hidden:
        print(f"{hidden} files were changed so much to fit that what is odd may be hidden; screened.csv says how")
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    print(f"table: {workdir / 'report' / 'screened.csv'}")
    return len(skipped)


def said_of_detector() -> dict[str, str]:
    """Returns what the command line asks of a detector, as its record names it."""
    return {name: flags.FLAGS[name].value for name in ("score", "threshold") if flags.FLAGS[name].present}


def open_again(record: dict[str, Any], settings: config.Config, said: dict[str, Any]) -> sources.Source:
    """Returns the data set of a run, each split read but once; raises `UserError` where it has changed."""
    where = {name: said[name] for name in ("data_dir", "streaming", "records_dir") if said.get(name)}
    used = {"dataset": record["dataset"]["name"]} | where
    if settings.classes:
        program.start_tensorflow()  # To count the images of some classes is to read them.
    source = sources.open_source(dataclasses.replace(settings, **used))
    config.check_same_images(record, source.describe())
    return dataclasses.replace(source, read=functools.cache(source.read))


def trained(run: "runs.Run") -> "subject.Trained":
    """Returns a run's model and the noise that it was trained on."""
    return subject.Trained(run.model, noise.parse(run.settings.noise))


def warn(record: dict[str, Any]) -> None:
    """Repeats the warning that goes with a run's data set."""
    if warning := record["dataset"]["warning"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    define_flags()
    program.run(main)
