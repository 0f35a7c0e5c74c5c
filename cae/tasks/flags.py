"""The flags of eval.py and of cae.predict beside those of `Config`, and their checks, which do not need TensorFlow."""

from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from absl import flags

import cae.config
from cae import models, tasks
from cae.config import Config, define_config_flags, explicit_flags
from cae.data import noise
from cae.errors import UserError
from cae.latents import interpolation
from cae.outliers import conformal, scores, thresholds
from cae.workdir import check_same_config, load_comparison_runs, load_run_config, workdir_from_flags


def define_common_flags(task_names: Iterable[str]) -> None:
    """Defines the flags that both programs have.

    Args:
      task_names: What `--tasks` can name.
    """
    define_config_flags(names={"noise": noise.NOISES})
    flags.adopt_module_key_flags(cae.config)  # So that --help lists them.
    flags.DEFINE_list("tasks", [], f"Any of: {', '.join(task_names)}; default: all that the model allows.")
    flags.DEFINE_integer("num_examples", 10, "Number of images in figures.", lower_bound=1, upper_bound=100)
    weights_help = "Weights of the second image, comma-separated, from 0 to 1; '...' continues with the same step."
    flags.DEFINE_string("interpolation_weights", "0,0.1,...,1", weights_help)
    flags.DEFINE_float("alpha", None, f"False positive rate of outliers; default: {thresholds.DEFAULT_ALPHA}.")
    flags.DEFINE_string(
        "score",
        None,
        f"The anomaly score, one of: {', '.join(scores.SCORES)}; default: deep_cluster for the model of that name, else"
        " fisher.",
    )
    methods = ", ".join(thresholds.THRESHOLDS)
    flags.DEFINE_string("threshold_method", next(iter(thresholds.THRESHOLDS)), f"One of: {methods}.")
    flags.DEFINE_boolean(
        "self_ensemble", False, "Denoise by the mean over eight flips and turns, in eight times as long."
    )
    flags.DEFINE_list("outlier_datasets", ["fashion_mnist"], "Data sets of outliers, named as for --dataset.")
    flags.DEFINE_integer("max_outliers_per_set", 2000, "Outliers of a set that are used, at most.", lower_bound=1)


def define_eval_flags() -> None:
    """Defines the flags of eval.py."""
    define_common_flags(tasks.TASKS)
    flags.DEFINE_list("compare", [], "Workdirs of other runs, comma-separated, whose models denoise the same images.")
    test_help = "Images to evaluate on instead of the run's test split, named as for --dataset; for runs on crops."
    flags.DEFINE_string("test_dataset", None, test_help)
    flags.DEFINE_integer("interpolation_pairs", 300, "Pairs of test images of each kind to interpolate.", lower_bound=1)
    flags.DEFINE_integer("baseline_images", 1000, "Test images that classical baselines denoise.", lower_bound=1)
    flags.DEFINE_integer("baseline_tuning_images", 64, "Validation images that they are tuned on.", lower_bound=1)
    kmeans_help = "Initializations of k-means; default: 100, or fewer for large data sets."
    flags.DEFINE_integer("kmeans_n_init", None, kmeans_help, lower_bound=1)
    flags.DEFINE_integer("tsne_images", tasks.TSNE_IMAGES, "Images in maps of latent vectors; 0: no t-SNE.")
    flags.register_validator(
        "tsne_images",
        lambda count: count == 0 or count >= tasks.MIN_TSNE_IMAGES,
        f"must be 0, for no t-SNE, or at least {tasks.MIN_TSNE_IMAGES}",
    )


def check_common_flags(
    values: flags.FlagValues, task_names: Sequence[str], ignore: Set[str] = frozenset()
) -> tuple[dict[str, Any], list[str]]:
    """Checks the flags that both programs have against each other and against the run in `--workdir`.

    Args:
      values: The flags.
      task_names: What `--tasks` can name.
      ignore: Fields of `Config`, beside the precision, that may differ from the run's training.

    Returns:
      The run's config.json, and the names of the selected tasks.

    Raises:
      UserError: A value is not allowed, differs from the run's training, or there is no run.
    """
    tasks.check_task_names(values.tasks, task_names)
    thresholds.get_threshold_method(values.threshold_method)
    interpolation.parse_weights(values.interpolation_weights)
    if values.alpha is not None:
        conformal.check_rate("alpha", values.alpha)
    run_config = load_run_config(workdir_from_flags(values))
    config = Config.from_dict(run_config["config"])
    check_same_config(run_config, explicit_flags(values), ignore={"precision", *ignore})
    if values.score is not None:
        scores.get_score(values.score, models.get_model_spec(config.model).capabilities)
    if values.self_ensemble:
        tasks.check_self_ensemble(config, run_config["dataset"]["image_shape"])
    return run_config, tasks.get_tasks(values.tasks, config, task_names)


def check_eval_flags(values: flags.FlagValues) -> tuple[list[str], dict[str, Path]]:
    """Checks the flags of eval.py as `check_common_flags` does.

    Returns:
      The names of the selected tasks, and the folders of the runs to compare with by name.
    """
    run_config, selected = check_common_flags(values, [*tasks.TASKS], ignore={"noise"})
    config = Config.from_dict(run_config["config"])
    if values.test_dataset and config.crop_size is None:
        raise UserError(f"--test_dataset={values.test_dataset} needs a run that was trained with --crop_size")
    noises_from_flags(values, config)
    return selected, load_comparison_runs(values.compare, run_config)


def noises_from_flags(values: flags.FlagValues, config: Config) -> list[str]:
    """Returns the noises that denoising is evaluated on; raises `UserError` for an unknown one."""
    return tasks.get_noises(explicit_flags(values).get("noise"), config, values.test_dataset)


def requested_precision(values: flags.FlagValues) -> str | None:
    """Returns --precision where it is given, for `Run.load`."""
    return explicit_flags(values).get("precision")


def dataset_location(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the explicit flags that say where the run's data set is, for `Run.open_dataset`."""
    explicit = explicit_flags(values)
    return {name: explicit[name] for name in ("data_dir", "streaming", "cache_dir") if explicit.get(name)}
